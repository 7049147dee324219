"""Neuron statistics through a whole probe, against double loops over hooked states."""

import math
from collections import Counter

import pytest
import torch

from neuronxa_callback import ParallelCorpus, Probe
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics.registry import NEURON_STATISTICS
from neuronxa_callback.probe.neurons.counter import FiringCounter, bytes_of_counts
from neuronxa_callback.report import AlignmentReport
from tests.helpers.ffn.firing import dense, encoder, marked_tokenizer, routed, states
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import llama, parallel

COUNTED = ("overlap", "sharing", "language_neurons")
EVERY = tuple(NEURON_STATISTICS)
PAIRS = 8


def rate(side, j, sentences=None):
    tokens = [t[j] for i in sentences or range(len(side)) for t in side[i]]
    return sum(tokens) / len(tokens)


def top(side, size, sentences=None):
    width = len(side[0][0])
    rates = [rate(side, j, sentences) for j in range(width)]
    return set(sorted(range(width), key=lambda j: (-rates[j], j))[:size])


def kind_of(n, languages):
    return {languages: "all", 0: "silent", 1: "specific"}.get(n, "partial")


@pytest.fixture(scope="module", params=[dense, routed, encoder], ids=lambda make: make.__name__)
def case(request):
    """The report of a probe in small microbatches, and the states of every sentence alone."""
    corpus = parallel(PAIRS)
    model, hooked = request.param()
    tokenizer = marked_tokenizer(corpus)
    probe = Probe(config_of(corpus, neurons=EVERY, batch_tokens=60), tokenizer)
    report = probe.run(model)
    languages = (corpus.pivot, *corpus.languages)
    return report, probe, languages, states(model, hooked, tokenizer, corpus)


def test_overlap_equals_sorted_lists_of_hooked_states(case):
    report, _, languages, on = case
    found = report.diagnostics["overlap"]
    for layer, sides in enumerate(on):
        width = len(sides[0][0][0])
        size = max(1, round(0.05 * width))
        assert found["selected"][layer] == size
        assert found["chance"][layer] == pytest.approx(size / width, rel=1e-3)
        for name, side in zip(languages, sides, strict=True):
            halves = [top(side, size, range(half, PAIRS, 2)) for half in (0, 1)]
            ceiling = len(halves[0] & halves[1]) / size
            assert found["ceiling"][name][layer] == pytest.approx(ceiling, rel=1e-3)
            if name != languages[0]:
                shared = len(top(sides[0], size) & top(side, size)) / size
                assert found["with_pivot"][name][layer] == pytest.approx(shared, rel=1e-3)


@pytest.mark.parametrize("rule", ["any", "last"])
def test_sharing_equals_a_loop_over_hooked_states(case, rule):
    report, _, languages, on = case
    found = report.diagnostics["sharing"][rule]
    for layer, sides in enumerate(on):
        width, kinds = len(sides[0][0][0]), Counter()
        null_all = 0.0

        def fires(side, i, j):
            return any(t[j] for t in side[i]) if rule == "any" else side[i][-1][j]

        for j in range(width):
            for i in range(PAIRS):
                kinds[kind_of(sum(fires(side, i, j) for side in sides), len(languages))] += 1
            q = [sum(fires(side, i, j) for i in range(PAIRS)) / PAIRS for side in sides]
            null_all += math.prod(q) / width
        for kind, shares in found["shares"].items():
            assert shares[layer] == pytest.approx(kinds[kind] / (PAIRS * width), rel=1e-3)
        assert found["null"]["all"][layer] == pytest.approx(null_all, rel=1e-3, abs=1e-9)


def test_language_neurons_equal_a_loop_over_hooked_states(case):
    report, probe, languages, on = case
    found = report.diagnostics["language_neurons"]
    rates = [[[rate(side, j) for j in range(len(side[0][0]))] for side in sides] for sides in on]
    flat = sorted(p for layer in rates for side in layer for p in side)
    assert found["bar"] == flat[int(0.95 * len(flat))]
    assert probe.neurons.bar == found["bar"]
    for layer, sides in enumerate(rates):
        above = [
            [k for k in range(len(sides)) if sides[k][j] > found["bar"]]
            for j in range(len(sides[0]))
        ]
        sizes = Counter(map(len, above))
        counts = {kind: found["neurons"][kind][layer] for kind in found["neurons"]}
        wanted = {"specific": sizes[1], "agnostic": sizes[len(sides)], "silent": sizes[0]}
        assert counts == wanted | {"related": len(above) - sum(wanted.values())}
        for k, name in enumerate(languages):
            assert found["specific"][name][layer] == above.count([k])
            related = [each for each in above if k in each and 1 < len(each) < len(sides)]
            assert found["related"][name][layer] == len(related)
    for neuron in probe.neurons.selected:
        column = [rates[neuron.layer][k][neuron.index] for k in range(len(languages))]
        assert neuron.rates == tuple(column)


def test_statistics_change_no_other_number_by_one_bit_and_survive_json():
    corpus = parallel(30)
    model, tokenizer = trained(), marked_tokenizer(corpus)
    bare = Probe(config_of(corpus), tokenizer).run(model)
    full = Probe(config_of(corpus, neurons=EVERY), tokenizer).run(model)
    assert set(full.diagnostics) == {*bare.diagnostics, *EVERY}
    rest = {name: full.diagnostics[name] for name in bare.diagnostics}
    assert (full.metrics, rest) == (bare.metrics, bare.diagnostics)
    assert (full.fingerprint, full.warnings) == (bare.fingerprint, bare.warnings)
    assert AlignmentReport.from_json(full.to_json()) == full


def test_counts_need_no_metric_of_activation_states():
    corpus = parallel(PAIRS)
    options = {"neurons": COUNTED, "diagnostics": ()}
    tokenizer, model = marked_tokenizer(corpus), trained()
    alone = Probe(config_of(corpus, metrics=["navca"], **options), tokenizer).run(model)
    beside = Probe(config_of(corpus, metrics=["nasca"], **options), tokenizer).run(model)
    assert alone.diagnostics == beside.diagnostics


def test_the_bar_of_the_first_probe_stays_so_that_counts_move():
    corpus = parallel(PAIRS)
    probe = Probe(config_of(corpus, neurons=COUNTED), marked_tokenizer(corpus))
    first = probe.run(trained(0)).diagnostics["language_neurons"]
    moved = probe.run(trained(3)).diagnostics["language_neurons"]
    assert moved["bar"] == first["bar"]
    assert moved["neurons"] != first["neurons"]
    fresh = Probe(probe.config, marked_tokenizer(corpus))
    fresh.neurons.bar = first["bar"]
    assert fresh.run(trained(3)).diagnostics["language_neurons"] == moved


def test_a_layer_with_nan_has_no_statistics():
    corpus = parallel(PAIRS)
    model = trained()
    with torch.no_grad():
        model.model.layers[2].mlp.gate_proj.weight[3] = float("nan")
    probe = Probe(config_of(corpus, neurons=EVERY, on_unproved="warn"), marked_tokenizer(corpus))
    found = probe.run(model).diagnostics
    assert found["language_neurons"] is None
    assert probe.neurons.bar is None
    assert [chance is None for chance in found["overlap"]["chance"]] == [False, False, True]
    everywhere = found["sharing"]["last"]["shares"]["all"]
    assert [share is None for share in everywhere] == [False, False, True]


REFUSALS = {
    "one_kind": (["overlaps"], "neuron statistic"),
    "text": ("overlap", "neurons must be a list of names"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_unknown_statistics_are_refused(kind):
    names, message = REFUSALS[kind]
    with pytest.raises(ConfigError, match=message):
        config_of(parallel(PAIRS), neurons=names)


def test_pivots_of_their_own_are_refused_only_if_firings_are_counted():
    pairs = {
        code: parallel(20, (code,), seed=k).pairs[code]
        for k, code in enumerate(("deu_Latn", "fra_Latn"))
    }
    corpus = ParallelCorpus("eng_Latn", pairs)
    tokenizer = marked_tokenizer(corpus)
    with pytest.raises(ConfigError, match="need the same pivot sentences in all languages"):
        Probe(config_of(corpus, neurons=["sharing"]), tokenizer).run(llama())
    report = Probe(config_of(corpus, neurons=["contrast"]), tokenizer).run(llama())
    assert set(report.diagnostics["contrast"]["nasca"]) == {*pairs}


def test_counts_above_the_budget_are_refused_with_the_options_that_lower_them():
    corpus = parallel(PAIRS)
    probe = Probe(config_of(corpus), marked_tokenizer(corpus))
    _, (group,) = probe.tokenize(llama())
    needed = bytes_of_counts(3, PAIRS, 100)
    counter = FiringCounter(group, [60, 40], torch.device("cpu"), most_bytes=needed)
    held = sum(t.nbytes for part in counter.parts for t in part.tensors())
    assert needed <= held <= needed + 1000
    with pytest.raises(ConfigError, match="lower n_pairs, name fewer languages"):
        FiringCounter(group, [60, 40], torch.device("cpu"), most_bytes=needed - 1)
