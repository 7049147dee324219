"""How often stop rules stop a run wrongly or too late, in simulated runs."""

import runpy
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "stopping.py"


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(BENCHMARK))


def test_error_rates_are_within_their_limits(benchmark):
    cells = benchmark["table"](25, (None,), [("middle", 0.0)], 5)
    assert len(cells) == 6
    for (_, words, limit), (share,) in cells.items():
        # A few runs: what is a limit of 5 % may show one run of 25.
        kind, per_cent = limit.split()
        bound = float(per_cent) / 100
        assert share <= max(bound, 0.05) if kind == "<=" else share >= bound - 0.05, words


@pytest.mark.slow
def test_error_rates_are_within_their_limits_in_many_runs(benchmark):
    columns = [("calm", 0.0), ("calm", 0.7), ("middle", 0.0), ("middle", 0.7)]
    for (_, words, limit), row in benchmark["table"](200, (None,), columns, 6).items():
        kind, per_cent = limit.split()
        for share in row:
            good = share <= 0.08 if kind == "<=" else share >= float(per_cent) / 100 - 0.06
            assert good, (words, row)
