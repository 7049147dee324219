"""The numbers of registered measures: double loops, and those of the built-in metrics."""

import pytest
import torch

from neuronxa_callback import AlignmentReport, Probe
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.extend import Metric
from neuronxa_callback.metrics.alignment import cosines, weakly_aligned
from neuronxa_callback.metrics.own import Faults, OwnMetric
from neuronxa_callback.show import tables
from neuronxa_callback.show.model_card import card_block
from neuronxa_callback.show.page.page import page
from tests.helpers.extend import measures as own
from tests.helpers.families import tiny
from tests.helpers.oracle import mask, states_by_hand
from tests.helpers.probes import config_of, trained


def by_hand(model, tokenize, language):
    """Verdicts, never firing neurons and never nearest translations of all layers: double loops."""
    sides = list(zip(*own.CORPUS.pairs[language], strict=True))
    sets, firing = ([], []), []
    for side, texts in enumerate(sides):
        for text in texts:
            sentence = tokenize(text)
            gates, _, _ = states_by_hand(model, sentence.ids)
            fired = [(gate > 0).tolist() for gate in gates]
            sets[side].append(
                [{j for row in layer for j, on in enumerate(row) if on} for layer in fired]
            )
            real = [t for t, special in enumerate(sentence.special) if not special]
            firing.append([{j for t in real for j, on in enumerate(layer[t]) if on}
                           for layer in fired])  # fmt: skip
    n, layers, width = len(sides[0]), len(firing[0]), gates[0].shape[1]
    masks, never_nearest = [], []
    for layer in range(layers):
        pivot, target = ([each[layer] for each in side] for side in sets)
        c = [[len(a & b) / len(a | b) for b in target] for a in pivot]
        hits = [all(c[i][i] > max(c[i][j], c[j][i]) for j in range(n) if j != i) for i in range(n)]
        masks.append(mask(hits))
        never_nearest.append(1 - len({max(range(n), key=row.__getitem__) for row in c}) / n)
    silent = [
        [1 - len(set().union(*(each[layer] for each in firing[k * n : (k + 1) * n]))) / width
         for layer in range(layers)] for k in (0, 1)
    ]  # fmt: skip
    return tuple(masks), never_nearest, silent


def test_the_examples_have_the_numbers_of_a_double_loop(examples, tokenizer):
    model = trained(intermediate_size=24)
    probe = Probe(config_of(own.CORPUS, batch_tokens=64, **own.ALL), tokenizer)
    report = probe.run(model)
    seen = set()
    for language in own.CORPUS.languages:
        masks, never_nearest, (of_pivot, of_language) = by_hand(model, probe.tokenizer, language)
        assert report.metrics["fires_anywhere"].hits[language] == masks
        found = report.diagnostics["never_nearest"]["fires_anywhere"][language]
        assert found == pytest.approx(never_nearest)
        silent = report.diagnostics["never_fires"]
        assert silent[language] == pytest.approx(of_language)
        assert silent["eng_Latn"] == pytest.approx(of_pivot)
        seen |= {*masks, *of_language}
    assert 0 < report.score("fires_anywhere") < 1
    assert len(seen) > 4


def test_other_numbers_do_not_move_by_one_bit(examples, tokenizer):
    model = trained()
    plain = {"metrics": ("nasca", "navca"), "neurons": ("overlap",),
             "diagnostics": ("margins", "sinks")}  # fmt: skip
    with_own, without = own.run(tokenizer, model, **own.ALL), own.run(tokenizer, model, **plain)
    for name in ("nasca", "navca"):
        assert with_own.metrics[name] == without.metrics[name]
    for name, entry in without.diagnostics.items():
        found = with_own.diagnostics[name]
        kept = {metric: found[metric] for metric in entry} if name == "margins" else found
        assert kept == entry
    assert with_own.fingerprint["definition"]["metrics"] == {
        "nasca": 1, "navca": 1, "fires_anywhere": 1
    }  # fmt: skip


def test_reports_pages_tables_and_cards_show_a_metric_of_ones_own(examples, tokenizer):
    report = own.run(tokenizer, **own.ALL)
    assert AlignmentReport.from_json(report.to_json()) == report
    assert "neuronxa/fires_anywhere/deu_Latn" in report.scalars()
    headers = [str(column.header) for column in tables.one_report(report).columns]
    assert "fires_anywhere" in headers
    assert "| fires_anywhere |" in card_block(report)
    pytest.importorskip("plotly")
    assert page({"run": [report]})


@pytest.mark.parametrize("site", ["gate", "product", "hidden"])
def test_the_functions_of_nasca_and_others_give_their_scores(registry, tokenizer, site):
    value = {"gate": lambda s: (s > 0).float(), "product": torch.abs, "hidden": torch.clone}[site]
    name = {"gate": "nasca", "product": "navca", "hidden": "mexa"}[site]
    registry.register_metric("mine", Metric(site=site, value=value))
    report = own.run(tokenizer, metrics=(name, "mine"))
    assert report.metrics["mine"] == report.metrics[name]
    assert report.diagnostics["margins"]["mine"] == report.diagnostics["margins"][name]


@pytest.mark.parametrize("family", ["mixtral", "gpt2"])
def test_experts_and_networks_without_a_gate_are_read_too(registry, tokenizer, family):
    registry.register_metric("mine", Metric(value=lambda states: (states > 0).float()))
    report = own.run(tokenizer, tiny(family, vocab_size=len(tokenizer)), metrics=("nasca", "mine"))
    assert report.metrics["mine"] == report.metrics["nasca"]


def distance(dot, pivot, target):
    """-1e6 times the squared distance."""
    return 1e6 * (2 * dot - pivot[..., :, None] - target[..., None, :])


def test_a_large_similarity_is_scaled_so_that_equal_vectors_tie():
    equal = torch.full((1, 2, 2), -1e6, dtype=torch.float64)
    equal.diagonal(dim1=1, dim2=2).add_(1e-9)  # a rounding error of numbers of this size
    sums = equal, equal[..., 0], equal[..., 0]
    found = OwnMetric("far", Metric(similarity=lambda *_: equal), Faults()).similarity(*sums)
    assert weakly_aligned(equal).all()
    assert not weakly_aligned(found).any()
    assert found.abs().max() == 1
    pivot = torch.rand(1, 5, 64, generator=torch.Generator().manual_seed(0)).double()
    target = pivot + 0.1 * torch.rand(1, 5, 64, generator=torch.Generator().manual_seed(1))
    dot = pivot @ target.transpose(1, 2)
    squares = [each.square().sum(-1) for each in (pivot, target)]
    far = OwnMetric("far", Metric(similarity=distance), Faults()).similarity(dot, *squares)
    assert torch.equal(far.argsort(dim=2), distance(dot, *squares).argsort(dim=2))
    near = OwnMetric("near", Metric(), Faults()).similarity(dot, *squares)
    assert torch.equal(near, cosines(dot, *squares))


def test_a_registered_metric_is_not_compared_between_all_languages(registry, tokenizer):
    registry.register_metric("mine", Metric())

    def tables_of(*metrics):
        probe = Probe(config_of(own.CORPUS, metrics=metrics, batch_tokens=64), tokenizer)
        return probe.run(trained(), pivot="all").language_pairs

    assert list(tables_of("mine", "nasca")) == ["nasca"]
    with pytest.raises(ConfigError, match=r"^pivot='all' compares languages by nasca, navca, mexa"):
        tables_of("mine")
