"""A fault on one rank, anywhere in a probe: one named error on all, and the next probe is right."""

import json

import pytest

from tests.helpers.faults import MEMORY, PLACES, PROOF
from tests.helpers.launch import DEEPSPEED_ON_CPU, WORKERS, launch, needs_deepspeed

pytestmark = pytest.mark.distributed
ELSEWHERE = "ProbeError: a probe failed on another rank: "


def faults(kind, folder, more=None):
    """What each of two ranks found."""
    script = WORKERS / "faults.py"
    done = launch(script, folder, kind, ranks=2, folder=folder, seconds=500, more=more)
    assert done.code == 0, done.output[-4000:]
    return [json.loads((folder / f"{kind}.{rank}.json").read_text())[kind] for rank in (0, 1)]


def check(first, second):
    """Every fault is an error of rank 1 that both ranks name; the next probe is the right one."""
    assert list(first) == [*PROOF, *PLACES, *(f"memory: {name}" for name in MEMORY)]
    for name, (heard, right, tokens) in first.items():
        error, own_right, own_tokens = second[name]
        assert (right, own_right) == (True, True), name
        assert name.removeprefix("memory: ") in error
        if name.startswith("memory"):
            assert heard == error
            assert error.startswith("ProbeMemoryError: memory ran out in a probe; the next one ")
            assert tokens == own_tokens == 32
        else:
            assert heard == ELSEWHERE + error
            assert tokens == own_tokens == 64


@pytest.mark.parametrize(
    "kind", ["whole", "shards", pytest.param("slices", marks=pytest.mark.slow), "auto"]
)
def test_a_fault_anywhere_is_one_error_on_all_ranks_and_the_next_probe_is_right(kind, tmp_path):
    check(*faults(kind, tmp_path))


@pytest.mark.slow
@needs_deepspeed
def test_a_fault_anywhere_is_one_error_on_all_ranks_of_zero_3(tmp_path):
    check(*faults("zero", tmp_path, DEEPSPEED_ON_CPU))
