"""A faulty measure is named, and costs neither the run nor another number."""

import logging
import math

import pytest
import torch

from neuronxa_callback import AlignmentReport, NeuronXACallback, Probe, ProbeConfig, read_reports
from neuronxa_callback.extend import Metric
from tests.helpers.extend import measures as own
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.runs import tokenizer_for, trainer_of


def check_nothing_else_moved(report, good):
    for name in ("nasca", "navca"):
        assert report.metrics[name] == good.metrics[name]
    for name in ("overlap", "sinks"):
        assert report.diagnostics[name] == good.diagnostics[name]


@pytest.mark.parametrize("name", own.FAULTY)
def test_a_faulty_metric_is_named_and_costs_no_other_score(examples, tokenizer, caplog, name):
    model, good = trained(), own.run(tokenizer, trained(), **own.ALL)
    examples.register_metric("mine", own.FAULTY[name])
    options = own.ALL | {"metrics": (*own.ALL["metrics"], "mine")}
    with caplog.at_level(logging.WARNING, "neuronxa_callback"):
        report = own.run(tokenizer, model, **options)
    check_nothing_else_moved(report, good)
    assert report.metrics["fires_anywhere"] == good.metrics["fires_anywhere"]
    for kept in ("never_fires", "never_nearest"):
        found = report.diagnostics[kept]
        assert {k: each for k, each in found.items() if k != "mine"} == good.diagnostics[kept]
    assert report.diagnostics["never_nearest"]["mine"] is None
    assert all(mask is None for masks in report.metrics["mine"].hits.values() for mask in masks)
    assert math.isnan(report.score("mine"))
    (line,) = (each for each in report.warnings if each.startswith("the metric 'mine' failed, so"))
    assert line in caplog.messages
    assert AlignmentReport.from_json(report.to_json()).metrics["mine"].layers == (0, 1, 2)


def test_functions_get_copies(examples, tokenizer):
    good = own.run(tokenizer, **own.ALL)
    examples.register_metric("spoils", Metric(value=own.spoils_and_goes_on))
    examples.register_neuron_statistic("spoil_counts", own.spoil_counts)
    examples.register_diagnostic("spoil_similarity", own.spoil_similarity)
    report = own.run(
        tokenizer,
        metrics=("spoils", *own.ALL["metrics"]),
        neurons=("spoil_counts", *own.ALL["neurons"]),
        diagnostics=("spoil_similarity", *own.ALL["diagnostics"]),
    )
    check_nothing_else_moved(report, good)
    assert report.metrics["fires_anywhere"] == good.metrics["fires_anywhere"]
    assert report.diagnostics["never_fires"] == good.diagnostics["never_fires"]
    nearest = dict(report.diagnostics["never_nearest"])
    assert nearest.pop("spoils")
    assert nearest == good.diagnostics["never_nearest"]
    assert report.diagnostics["spoil_counts"] == {"spoiled": True}


UNUSABLE = (own.breaks, lambda *arguments: object(), lambda *arguments: [2**70],
            lambda *arguments: {"many": torch.zeros(200_000)})  # fmt: skip


@pytest.mark.parametrize("function", UNUSABLE)
def test_a_faulty_statistic_or_diagnostic_is_named_and_costs_nothing(examples, tokenizer, function):
    good = own.run(tokenizer, **own.ALL)
    examples.register_neuron_statistic("mine", function)
    examples.register_diagnostic("yours", function)
    report = own.run(
        tokenizer, metrics=own.ALL["metrics"], neurons=(*own.ALL["neurons"], "mine"),
        diagnostics=("yours", *own.ALL["diagnostics"]),
    )  # fmt: skip
    check_nothing_else_moved(report, good)
    assert report.diagnostics["mine"] is None
    assert report.diagnostics["yours"] == dict.fromkeys(own.ALL["metrics"])
    named = [line.split(" failed, so")[0] for line in report.warnings if " failed, so" in line]
    owners = [f"the diagnostic 'yours' of {name}" for name in sorted(own.ALL["metrics"])]
    assert sorted(named) == [*owners, "the neuron statistic 'mine'"]


def test_a_metric_that_fails_for_one_probe_only_is_back_in_the_next(registry, tokenizer):
    fails = [True]

    def value(states):
        return own.breaks() if fails[0] else states.relu()

    registry.register_metric("mine", Metric(value=value))
    probe, model = Probe(config_of(own.CORPUS, metrics=("mine",)), tokenizer), trained()
    assert math.isnan(probe.run(model).score("mine"))
    fails[0] = False
    assert 0 <= probe.run(model).score("mine") <= 1


def test_states_with_nan_are_nan_whatever_the_functions_say(registry, tokenizer):
    hides = Metric(value=lambda s: torch.ones_like(s), vector=lambda s: torch.ones_like(s),
                   similarity=lambda dot, p, t: torch.ones_like(dot))  # fmt: skip
    registry.register_metric("hides", hides)
    model = trained()
    with torch.no_grad():
        model.model.layers[1].mlp.gate_proj.weight[0] = math.nan
    report = own.run(tokenizer, model, metrics=("nasca", "hides"))
    for language in report.languages:
        masks = {name: report.metrics[name].hits[language] for name in report.metrics}
        assert [mask is None for mask in masks["hides"]] == [
            mask is None for mask in masks["nasca"]
        ]
        assert None in masks["hides"]


def test_a_faulty_measure_never_costs_a_training_run(registry, tmp_path):
    registry.register_metric("mine", own.FAULTY["value"])
    registry.register_diagnostic("yours", own.breaks)
    corpus = half_translated(10)
    config = ProbeConfig(corpus=corpus, n_pairs=10, metrics=("nasca", "mine"),
                         diagnostics=("yours",))  # fmt: skip
    callback = NeuronXACallback(config, every=3)
    trainer = trainer_of(tokenizer_for(corpus), tmp_path, [callback])
    trainer.train()
    reports = read_reports(tmp_path)
    assert [report.step for report in reports] == [0, 3, 6]
    assert all(len(report.warnings) >= 3 for report in reports)
    plain = trainer_of(tokenizer_for(corpus), tmp_path / "plain")
    plain.train()
    weights = zip(trainer.model.parameters(), plain.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in weights)
