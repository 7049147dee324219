"""A registered measure that fails on one rank has failed on all, and costs nothing else."""

import json

import pytest

from tests.helpers.launch import WORKERS, launch

pytestmark = pytest.mark.distributed
BAD = ("bad_value", "bad_weights", "bad_similarity", "differs")


def test_a_fault_on_one_rank_is_named_on_all_and_costs_no_other_score(tmp_path):
    done = launch(WORKERS / "own.py", tmp_path, ranks=2, folder=tmp_path, seconds=500)
    assert done.code == 0, done.output[-4000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["same"] == {"nasca": True, "navca": True}
    report = json.loads(first["report"])
    for name, scores in report["metrics"].items():
        masks = [mask for each in scores["hits"].values() for mask in each]
        assert (set(masks) == {None}) == (name in BAD), name
        assert (None in masks) == (name in BAD), name
    found = report["diagnostics"]
    languages = report["languages"]
    good = {name: None if name in BAD else dict.fromkeys(languages, 20)
            for name in report["metrics"]}  # fmt: skip
    assert found["pairs"] == good
    assert found["bad_look"] == dict.fromkeys(report["metrics"])
    assert (found["layers"], found["bad_counts"]) == (3, None)
    text = " failed, so this report has no numbers of it: "
    named = dict(line.split(text) for line in report["warnings"] if text in line)
    planned = "ZeroDivisionError: planned"
    assert named == {
        **{f"the metric {name!r}": planned for name in BAD[:3]},
        "the metric 'differs'": "its results differ between ranks",
        "the neuron statistic 'bad_counts'": planned,
        **{f"the diagnostic 'bad_look' of {name}": planned for name in report["metrics"]},
    }
