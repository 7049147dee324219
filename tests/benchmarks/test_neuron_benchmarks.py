"""The benchmarks of neuron statistics run; what counting adds, as counts."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from neuronxa_callback import ParallelCorpus

FOLDER = Path(__file__).parents[2] / "benchmarks" / "neurons"
MOST_LAUNCHES = 16
"""That counting adds per layer and forward."""


def script(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER.parent)
        return SimpleNamespace(**runpy.run_path(str(FOLDER / name)))


@pytest.mark.parametrize("shape", ["1B", pytest.param("8B", marks=pytest.mark.slow)])
def test_counting_adds_few_launches_and_little_traffic(shape):
    bare, without, counted, layers, one_read = script("counts.py").measure(shape)
    assert 0 < (counted.launches - without.launches).total() / layers <= MOST_LAUNCHES
    assert 0 < (counted.bytes - without.bytes) / one_read < 2.5
    assert (counted.seconds - without.seconds) / bare.seconds < 0.1


def test_the_figures_of_the_docs_are_those_of_the_recorded_report(tmp_path):
    figures = script("figures.py")
    report = figures.read(figures.RECORDED)
    kept = (FOLDER / "gemma3_270m_202611.md").read_text(encoding="utf-8")
    for lines in (figures.by_statistic, figures.by_language, figures.failing):
        assert all(line in kept for line in lines(report))
    figures.languages_picture(report).savefig(tmp_path / "languages.png")
    figures.neuron_curves(report).savefig(tmp_path / "layers.png")


def test_the_cost_is_measured_in_pairs():
    cost = script("cost.py")
    known = ParallelCorpus.builtin("dev", ("deu_Latn",))
    corpus = ParallelCorpus(known.pivot, {"deu_Latn": known.pairs["deu_Latn"][:4]})
    threads = torch.get_num_threads()
    seconds = cost.measure("tiny", corpus, 1, 64)
    torch.set_num_threads(threads)
    assert [*seconds] == ["bare", *cost.KINDS]
    assert len([*cost.rows(seconds)]) == 3 + len(cost.KINDS)
