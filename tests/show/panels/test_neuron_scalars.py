"""Trackers get means of the neuron statistics: their numbers, and how many keys."""

import math
import random

import pytest
import torch

from neuronxa_callback.metrics.neurons.counts import FiringCounts
from neuronxa_callback.metrics.registry import NEURON_STATISTICS
from neuronxa_callback.probe.neurons import statistics
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import sinks
from neuronxa_callback.show.scalar_choice import choose_scalars
from tests.helpers.output import wandb_file
from tests.helpers.reports import make_report

MANY = tuple(f"lan{k:02}_Latn" for k in range(25))
PAIRS, LAYERS = 100, 32


def firing_counts(languages, neurons, seed=0):
    """Counts as a probe makes them, of random firings."""
    draw = torch.Generator().manual_seed(seed)
    counts = FiringCounts(languages, PAIRS, neurons, torch.device("cpu"))
    for tensor in counts.tensors():
        tensor += torch.randint(1, 2000, tensor.shape, generator=draw, dtype=tensor.dtype)
    counts.tokens += 10**5
    for name in ("languages_any", "languages_last"):
        getattr(counts, name).remainder_(languages + 1)
    for name in ("sentences_any", "sentences_last"):
        getattr(counts, name).remainder_(PAIRS + 1)
    return counts


def every_statistic(languages, neurons=64, layers=LAYERS, metrics=("nasca", "navca")):
    """The diagnostics of all neuron statistics, by the code of a probe, with numbers by chance."""
    draw = random.Random(0)
    names = ("eng_Latn", *languages)
    counted = [firing_counts(len(names), neurons)] * layers
    rates = [layer.rates() for layer in counted]
    score = {"score": 0.123456789, "pairs": 90, "low": 0.0123456789, "high": 0.2345678901}

    def number():
        return round(draw.random(), 4)

    def rivals():
        return {
            "pair": [draw.randrange(PAIRS) for _ in range(PAIRS)],
            "by_pivot": [draw.randrange(2) for _ in range(PAIRS)],
            "layers": [draw.randint(1, layers) for _ in range(PAIRS)],
        }

    made = {
        "overlap": statistics.overlap_entry(counted, names),
        "sharing": statistics.sharing_entry(counted),
        "language_neurons": statistics.language_neurons_entry(counted, rates, 0.005, names),
        "beyond_surface": {m: dict.fromkeys(languages, score) for m in metrics},
        "contrast": {m: {x: [number() for _ in range(layers)] for x in languages} for m in metrics},
        "rivals": {m: {x: rivals() for x in languages} for m in metrics},
    }
    assert set(made) == set(NEURON_STATISTICS)
    return made


def test_a_run_with_all_statistics_has_less_than_400_keys(offline):
    import wandb

    found = every_statistic(MANY)
    reports = [make_report(step, dict.fromkeys(MANY, 0.5), diagnostics=found) for step in (10, 20)]
    bare = make_report(10, dict.fromkeys(MANY, 0.5))
    with wandb.init(project="p"):
        sink = sinks.WandbSink()
        for report in reports:
            sink.write(report)
        sink.close()
    wandb.teardown()
    keys = dict.fromkeys(key for row in wandb_file.history(offline()) for key in row)
    assert {*reports[0].scalars()} < {*keys}
    assert {*bare.scalars()} < {*reports[0].scalars()}
    assert 250 < len(keys | wandb_file.summary(offline())) < 400


def test_the_choice_of_means_leaves_out_languages():
    report = make_report(5, dict.fromkeys(MANY, 0.5), diagnostics=every_statistic(MANY))
    means = choose_scalars(report, "mean")
    assert [key for key in means if "lan0" in key] == []
    assert "neuronxa/nasca_beyond_surface/mean" in means
    assert "neuronxa/sharing/last/excess" in means
    languages = choose_scalars(report, "languages")
    assert languages["neuronxa/nasca_beyond_surface/lan07_Latn"] == 0.123456789


def test_the_numbers_are_means_of_those_of_the_report():
    found = every_statistic(MANY[:3], layers=2)
    found["beyond_surface"]["nasca"] = {
        "lan00_Latn": {"score": 0.25, "pairs": 20, "low": 0.1, "high": 0.4},
        "lan01_Latn": {"score": 0.75, "pairs": 50, "low": 0.6, "high": 0.9},
        "lan02_Latn": {"score": None, "pairs": 19, "low": None, "high": None},
    }
    scalars = make_report(1, dict.fromkeys(MANY[:3], 0.5), diagnostics=found).scalars()
    overlap = [x for row in found["overlap"]["with_pivot"].values() for x in row]
    assert scalars["neuronxa/overlap/mean"] == pytest.approx(sum(overlap) / len(overlap))
    for rule in ("any", "last"):
        share, null = (sum(found["sharing"][rule][part]["all"]) / 2 for part in ("shares", "null"))
        assert scalars[f"neuronxa/sharing/{rule}/excess"] == pytest.approx(share - null)
    neurons = found["language_neurons"]["neurons"]
    total = sum(map(sum, neurons.values()))
    assert total == 2 * 64
    for kind, counts in neurons.items():
        assert scalars[f"neuronxa/language_neurons/{kind}"] == sum(counts) / total
    assert scalars["neuronxa/nasca_beyond_surface/mean"] == 0.5
    assert "neuronxa/nasca_beyond_surface/lan02_Latn" not in scalars


def test_nan_gives_nan():
    found = every_statistic(MANY[:2], layers=2)
    found["overlap"]["with_pivot"]["lan01_Latn"][1] = None
    found["language_neurons"] = None
    found["contrast"]["nasca"]["lan00_Latn"][0] = None
    scalars = make_report(1, dict.fromkeys(MANY[:2], 0.5), diagnostics=found).scalars()
    for key in ("overlap/mean", "language_neurons/specific", "nasca_contrast/mean"):
        assert math.isnan(scalars[f"neuronxa/{key}"])
    assert scalars["neuronxa/navca_contrast/mean"] > 0


def test_tensorboard_gets_the_same_scalars(tmp_path):
    event_file = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = make_report(7, diagnostics=every_statistic(("deu_Latn", "swh_Latn"), layers=4))
    sink = sinks.TensorBoardSink(tmp_path)
    sink.write(report)
    sink.close()
    events = event_file.EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Scalars("neuronxa/sharing/any/excess")
    assert event.step == 7
    assert event.value == pytest.approx(report.scalars()["neuronxa/sharing/any/excess"], rel=1e-5)


def test_24_languages_and_32_layers_take_less_than_a_megabyte():
    languages = MANY[:24]
    found = every_statistic(languages, neurons=14336)
    draw = random.Random(1)
    masks = {
        name: [[draw.random() < 0.5 for _ in range(PAIRS)] for _ in range(LAYERS)]
        for name in languages
    }
    report = make_report(10**6, hits=masks, diagnostics=found)
    text = report.to_json()
    assert AlignmentReport.from_json(text) == report
    assert 200_000 < len(text.encode()) < 1_000_000
