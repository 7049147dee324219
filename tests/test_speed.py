"""What a probe may cost: the bars of `benchmarks/`, each held twice as wide."""

from pathlib import Path

import pytest
import torch

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture
def bench(monkeypatch):
    """Imports a benchmark by its name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return __import__


def test_little_of_what_is_run_is_padding(bench):
    subjects = bench("subjects")
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE)
    tokenizer = subjects.tokenizer_of(corpus)
    config = ProbeConfig(corpus=corpus, metrics=("nasca",), diagnostics=("tokens",))
    report = Probe(config, tokenizer).run(subjects.llama("tiny", num_hidden_layers=1))
    assert report.diagnostics["tokens"]["padding"] < 0.15


def test_scoring_at_once_is_what_the_double_loop_gives_and_much_faster(bench):
    subjects, mexa_way = bench("subjects"), bench("mexa_way")
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(13, 100, 64, generator=generator) for _ in range(2))
    b = 0.3 * a + b
    summed, said = mexa_way.products(a, b), {}
    found = subjects.paired(
        {
            "once": lambda: said.update(once=mexa_way.score_at_once(*summed)),
            "loop": lambda: said.update(loop=mexa_way.score_cell_by_cell(a.numpy(), b.numpy())),
        },
        rounds=3,
    )
    assert said["once"] == said["loop"]
    assert max(said["loop"]) > 10, "there must be something to agree on"
    assert subjects.ratios(found, "once")["loop"][2] > 150


@pytest.mark.slow
def test_a_probe_costs_little_more_than_the_forward_pass(bench):
    subjects, forward = bench("subjects"), bench("forward")
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[:4])
    tokenizer = subjects.tokenizer_of(corpus)
    kinds = ["nasca", "default, with diagnostics"]
    found, _ = forward.measure(subjects.llama("25M"), tokenizer, corpus, kinds, rounds=5)
    ratios = subjects.ratios(found, "bare")
    print(ratios)
    # The least of the rounds: whatever else runs on the machine only adds.
    assert ratios["nasca"][1] < 1.16
    assert ratios["default, with diagnostics"][1] < 1.40


@pytest.mark.slow
def test_a_probe_is_faster_than_a_sentence_at_a_time(bench):
    subjects, mexa_way = bench("subjects"), bench("mexa_way")
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[:1])
    tokenizer, model = subjects.tokenizer_of(corpus), subjects.llama("25M")
    probe = Probe(ProbeConfig(corpus=corpus, metrics=("mexa",), diagnostics=()), tokenizer)
    said = {}
    acts = {
        "ours": lambda: said.update(ours=probe.run(model)),
        "theirs": lambda: said.update(theirs=mexa_way.whole(model, probe, corpus)),
    }
    found = subjects.paired(acts, rounds=2)
    (language,) = corpus.languages
    ours = [mask.bit_count() for mask in said["ours"].metrics["mexa"].hits[language]]
    assert ours == said["theirs"][language]
    assert subjects.ratios(found, "ours")["theirs"][0] > 1


@pytest.mark.slow
def test_the_import_is_light(bench):
    imports = bench("imports")
    found = imports.measure(5)
    # The least of each: whatever else runs on the machine only adds.
    assert min(found["and NeuronXACallback"]) < 0.6


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_memory_does_not_grow_with_the_number_of_languages(bench):
    memory = bench("memory")
    few = memory.alone(4)
    # The pivot's vectors alone, in MiB: less means that nothing was measured.
    assert few > 37
    assert memory.alone(200) < 1.2 * few
