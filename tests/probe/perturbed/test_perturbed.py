"""Perturbed targets beside a clean probe: clean scores stay, differences are paired."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe
from neuronxa_callback.cli.scoring.perturb import Perturbations, entries
from neuronxa_callback.corpus.perturbation.changes import CHANGES
from neuronxa_callback.history.perturbation import cost_of_perturbation
from neuronxa_callback.metrics.statistics import holm
from neuronxa_callback.probe.executor import Executor
from neuronxa_callback.probe.perturbed.probe import PerturbedProbe, perturb_corpus
from tests.helpers import oracle
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.reports import make_report
from tests.helpers.tiny import tokenizer_of

CORPUS = half_translated(14)


def tokenizer():
    texts = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts + [text.upper() for text in texts])


@pytest.fixture
def probe():
    return Probe(config_of(CORPUS, batch_tokens=100), tokenizer())


@pytest.mark.parametrize("kind", CHANGES)
def test_perturbed_scores_equal_the_double_loop_of_the_changed_sentences(kind, probe):
    model = trained()
    clean = probe.run(model)
    corpus = perturb_corpus(kind, probe.tokenize(model)[0], probe.tokenizer, 512)
    report = PerturbedProbe(probe, corpus).run(model)
    seen = 0
    for language, pairs in CORPUS.pairs.items():
        changed = [(pivot, CHANGES[kind](target, language)) for pivot, target in pairs]
        expected = oracle.hits(model, probe.tokenizer, changed)
        for metric in report.metrics:
            masks = tuple(oracle.mask(row) for row in expected[metric])
            assert report.metrics[metric].hits[language] == masks
            seen += sum(mask.bit_count() for mask in masks)
    assert seen > 0
    assert report.metrics != clean.metrics


def test_the_clean_report_stays_as_it_is_bit_for_bit_and_no_microbatch_is_mixed(probe, monkeypatch):
    model = trained()
    bare = Probe(probe.config, tokenizer()).run(model)
    ran = []
    run = Executor.run

    def watched(self):
        ran.append({self.context.groups[0].targets[0].sentences[0].ids})
        return run(self)

    monkeypatch.setattr(Executor, "run", watched)
    perturbations = Perturbations(probe, model, ("case", "typos"))
    clean = probe.run(model)
    full = perturbations.measure(clean, None)
    assert len(ran) == 3
    assert len(ran[0] | ran[1] | ran[2]) == 3, "each of its own sentences"
    assert set(full.diagnostics) == {*bare.diagnostics, "perturbed"}
    rest = {name: full.diagnostics[name] for name in bare.diagnostics}
    assert replace(full, diagnostics=rest) == bare == clean
    assert AlignmentReport.from_json(full.to_json()) == full


def test_the_entries_hold_clean_minus_perturbed_of_every_language_and_the_mean(probe):
    model = trained()
    perturbations = Perturbations(probe, model, ("case",))
    report = perturbations.measure(probe.run(model), None)
    perturbed = PerturbedProbe(probe, perturbations.corpora[0]).run(model)
    for metric, found in report.diagnostics["perturbed"]["case"].items():
        assert [*found] == [*CORPUS.languages, "mean"]
        for name, entry in found.items():
            language = None if name == "mean" else name
            assert entry["clean"] == pytest.approx(report.score(metric, language))
            assert entry["perturbed"] == perturbed.score(metric, language)
            difference = entry["clean"] - entry["perturbed"]
            assert entry["difference"] == pytest.approx(difference)
            assert entry["low"] <= entry["difference"] <= entry["high"]


def test_the_difference_is_paired_and_its_p_values_are_holms():
    """Against numpy: the standard error of n differences of independent pairs."""
    draw = np.random.default_rng(3)
    before = {name: (draw.random((4, 100)) < 0.6).astype(float) for name in ("a", "b")}
    after = {name: each * (draw.random((4, 100)) < 0.9) for name, each in before.items()}
    clean, perturbed = make_report(0, hits=before), make_report(0, hits=after)
    costs = cost_of_perturbation(clean, perturbed, "nasca")
    for name in ("a", "b"):
        d = (before[name] - after[name]).mean(axis=0)
        cost = costs[name]
        assert cost.difference == pytest.approx(d.mean())
        half = (cost.high - cost.low) / 2
        kurtosis = ((d - d.mean()) ** 4).mean() / d.var() ** 2
        df = min(99, max(4, 200 / (kurtosis - 1)))
        assert half == pytest.approx(t.ppf(0.975, df) * d.std(ddof=1) / 10)
    unpaired = {name: each[:, ::-1] for name, each in after.items()}
    wide = cost_of_perturbation(clean, make_report(0, hits=unpaired), "nasca")
    assert wide["a"].high - wide["a"].low > 1.5 * (costs["a"].high - costs["a"].low)
    single = [
        cost_of_perturbation(
            make_report(0, hits={n: before[n]}), make_report(0, hits={n: after[n]}), "nasca"
        )[n].p
        for n in ("a", "b")
    ]
    assert [costs[name].p for name in ("a", "b")] == pytest.approx(holm(single))


def test_a_language_to_which_it_does_not_apply_is_null_and_not_in_the_mean():
    pairs = {
        "deu_Latn": CORPUS.pairs["deu_Latn"],
        "zho_Hans": tuple(
            (pivot, f"第{k}句话") for k, (pivot, _) in enumerate(CORPUS.pairs["deu_Latn"])
        ),
    }
    corpus = ParallelCorpus("eng_Latn", pairs)
    probe = Probe(config_of(corpus), tokenizer())
    model = trained()
    perturbations = Perturbations(probe, model, ("case", "typos"))
    report = perturbations.measure(probe.run(model), None)
    for kind, reason in (("case", "it has no case"), ("typos", "it puts no space between words")):
        found = report.diagnostics["perturbed"][kind]["nasca"]
        assert found["zho_Hans"] is None
        assert found["mean"]["clean"] == report.score("nasca", "deu_Latn")
        (line,) = (each for each in perturbations.describe() if kind in each)
        assert line.startswith(f"--perturb {kind}: 1 language, ")
        assert line.endswith(f"in addition; n/a in zho_Hans: {reason}")
    assert (
        json.loads(report.to_json())["diagnostics"]["perturbed"]["case"]["nasca"]["zho_Hans"]
        is None
    )


def test_a_perturbation_of_no_language_runs_nothing(monkeypatch):
    sentences = {pivot: f"第{k}句话" for k, (pivot, _) in enumerate(CORPUS.pairs["deu_Latn"])}
    corpus = ParallelCorpus("eng_Latn", {"zho_Hans": tuple(sentences.items())})
    probe, model = Probe(config_of(corpus), tokenizer()), trained()
    perturbations = Perturbations(probe, model, ("case",))
    clean = probe.run(model)
    monkeypatch.setattr(Executor, "run", None)
    report = perturbations.measure(clean, None)
    assert report.diagnostics["perturbed"]["case"]["nasca"] == {"zho_Hans": None, "mean": None}
    assert entries(clean, None, "nasca") == {"zho_Hans": None, "mean": None}


def test_a_language_whose_perturbed_sentences_are_too_long_is_left_out(probe):
    model = trained()
    tokenized = probe.tokenize(model)[0]
    longest = max(len(each.ids) for each in tokenized.sentences.values())
    corpus = perturb_corpus("typos", tokenized, probe.tokenizer, longest - 1)
    assert corpus.left_out
    assert all(
        reason.endswith(f"of its sentences would have 0 or more than {longest - 1} tokens")
        for reason in corpus.left_out.values()
    )
    assert not {*corpus.left_out} & {*corpus.tokenized.pairs}


def test_the_cost_counts_every_sentence_once(probe):
    model = trained()
    perturbations = Perturbations(probe, model, ("punctuation",))
    tokenize = probe.tokenizer
    pivots = sum(len(tokenize(pivot).ids) for pivot, _ in CORPUS.pairs["deu_Latn"])
    targets = [target for pairs in CORPUS.pairs.values() for _, target in pairs]
    clean = pivots + sum(len(tokenize(text).ids) for text in targets)
    changed = pivots + sum(len(tokenize(CHANGES["punctuation"](text, "")).ids) for text in targets)
    (line,) = perturbations.describe()
    assert line == (
        f"--perturb punctuation: 2 languages, {changed / clean:.2f} times the tokens of the clean"
        " sentences, in addition"
    )
