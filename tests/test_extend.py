"""Registered metrics, neuron statistics and diagnostics: their numbers, names and faults."""

import json
import logging
import math
import subprocess
import sys
import textwrap

import pytest
import torch

from neuronxa_callback import AlignmentReport, NeuronXACallback, Probe, ProbeConfig, read_reports
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.extend import Metric
from neuronxa_callback.show import tables
from neuronxa_callback.show.model_card import card_block
from neuronxa_callback.show.page.page import page
from tests.helpers import own
from tests.helpers.oracle import mask, states_by_hand
from tests.helpers.probes import config_of, half_translated, trained
from tests.helpers.runs import SHELL, tokenizer_for, trainer_of
from tests.helpers.tiny import llama, tokenizer_of

CORPUS = half_translated(10)
ALL = {
    "metrics": ("nasca", "navca", "fires_anywhere"),
    "neurons": ("overlap", "never_fires"),
    "diagnostics": ("margins", "sinks", "never_nearest"),
}


@pytest.fixture
def registry():
    with own.registry() as found:
        yield found


@pytest.fixture
def examples(registry):
    own.register_examples()
    return registry


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts)


def run(tokenizer, model=None, **options):
    config = config_of(CORPUS, batch_tokens=64, **options)
    return Probe(config, tokenizer).run(model or trained())


def by_hand(model, tokenize, language):
    """Verdicts, never firing neurons and never nearest translations of all layers: double loops."""
    sides = list(zip(*CORPUS.pairs[language], strict=True))
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
    probe = Probe(config_of(CORPUS, batch_tokens=64, **ALL), tokenizer)
    report = probe.run(model)
    seen = set()
    for language in CORPUS.languages:
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
    with_own, without = run(tokenizer, model, **ALL), run(tokenizer, model, **plain)
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
    report = run(tokenizer, **ALL)
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
    report = run(tokenizer, metrics=(name, "mine"))
    assert report.metrics["mine"] == report.metrics[name]
    assert report.diagnostics["margins"]["mine"] == report.diagnostics["margins"][name]


def test_a_large_similarity_ties_where_its_pairs_are_equal(registry, tokenizer):
    def distance(dot, pivot, target):
        return 1e6 * (2 * dot - pivot[..., :, None] - target[..., None, :])

    registry.register_metric("distance", Metric(site="product", similarity=distance))
    report = run(tokenizer, metrics=("distance",))
    assert 0 < report.score("distance") < 1
    largest = max(report.diagnostics["margins"]["distance"]["deu_Latn"]["margin_90"])
    assert largest < 1


def check_nothing_else_moved(report, good):
    for name in ("nasca", "navca"):
        assert report.metrics[name] == good.metrics[name]
    for name in ("overlap", "sinks"):
        assert report.diagnostics[name] == good.diagnostics[name]


@pytest.mark.parametrize("name", own.FAULTY)
def test_a_faulty_metric_is_named_and_costs_no_other_score(examples, tokenizer, caplog, name):
    model, good = trained(), run(tokenizer, trained(), **ALL)
    examples.register_metric("mine", own.FAULTY[name])
    options = ALL | {"metrics": (*ALL["metrics"], "mine")}
    with caplog.at_level(logging.WARNING, "neuronxa_callback"):
        report = run(tokenizer, model, **options)
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
    good = run(tokenizer, **ALL)
    examples.register_metric("spoils", Metric(value=own.spoils_and_goes_on))
    examples.register_neuron_statistic("spoil_counts", own.spoil_counts)
    examples.register_diagnostic("spoil_similarity", own.spoil_similarity)
    report = run(
        tokenizer,
        metrics=("spoils", *ALL["metrics"]),
        neurons=("spoil_counts", *ALL["neurons"]),
        diagnostics=("spoil_similarity", *ALL["diagnostics"]),
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
    good = run(tokenizer, **ALL)
    examples.register_neuron_statistic("mine", function)
    examples.register_diagnostic("yours", function)
    report = run(
        tokenizer, metrics=ALL["metrics"], neurons=(*ALL["neurons"], "mine"),
        diagnostics=("yours", *ALL["diagnostics"]),
    )  # fmt: skip
    check_nothing_else_moved(report, good)
    assert report.diagnostics["mine"] is None
    assert report.diagnostics["yours"] == dict.fromkeys(ALL["metrics"])
    named = [line.split(" failed, so")[0] for line in report.warnings if " failed, so" in line]
    owners = [f"the diagnostic 'yours' of {name}" for name in sorted(ALL["metrics"])]
    assert sorted(named) == [*owners, "the neuron statistic 'mine'"]


def test_a_metric_that_fails_for_one_probe_only_is_back_in_the_next(registry, tokenizer):
    fails = [True]

    def value(states):
        return own.breaks() if fails[0] else states.relu()

    registry.register_metric("mine", Metric(value=value))
    probe, model = Probe(config_of(CORPUS, metrics=("mine",)), tokenizer), trained()
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
    report = run(tokenizer, model, metrics=("nasca", "hides"))
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


def package(folder, group, name, body):
    """An installed package that offers one measure."""
    module = f"package_{name}"
    (folder / f"{module}.py").write_text(textwrap.dedent(body), encoding="utf-8")
    info = folder / f"{module}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}:measure\n")


METRIC = "from neuronxa_callback.extend import Metric\nmeasure = Metric(site='product')\n"


def test_entry_points_are_found_and_loaded_only_when_named(registry, tokenizer, tmp_path,
                                                           monkeypatch):  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    groups = registry.GROUPS
    package(tmp_path, groups["metric"], "mine", METRIC)
    package(tmp_path, groups["metric"], "broken", "import there_is_no_such_module")
    package(tmp_path, groups["neuron statistic"], "layers", "measure = lambda l, names: len(l)")
    package(tmp_path, groups["diagnostic"], "pairs", "measure = lambda each: len(each.pairs)")
    report = run(tokenizer, metrics=("mine",), neurons=("layers",), diagnostics=("pairs",))
    assert 0 <= report.score("mine") <= 1
    assert report.diagnostics["layers"] == 3
    assert report.diagnostics["pairs"] == {"mine": dict.fromkeys(CORPUS.languages, 10)}
    with pytest.raises(ConfigError) as error:
        ProbeConfig(metrics=("broken",))
    assert str(error.value) == (
        "the metric 'broken' of the entry point 'package_broken:measure' cannot be loaded:"
        " ModuleNotFoundError: No module named 'there_is_no_such_module'"
    )
    with pytest.raises(ConfigError, match="unknown metric: 'mini'; did you mean 'mine'"):
        ProbeConfig(metrics=("mini",))


def test_two_packages_with_one_name_and_a_wrong_kind_are_refused(registry, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "a")
    package(tmp_path / "a", registry.GROUPS["metric"], "wrong", "measure = 3")
    with pytest.raises(ConfigError, match="the metric 'wrong' must be a Metric, got 3"):
        ProbeConfig(metrics=("wrong",))
    package(tmp_path / "b", registry.GROUPS["metric"], "mine", METRIC)
    monkeypatch.syspath_prepend(tmp_path / "b")
    info = tmp_path / "a" / "other-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUPS['metric']}]\nmine = other:measure\n")
    with pytest.raises(ConfigError, match="must be known once, but 2 installed packages offer it"):
        ProbeConfig(metrics=("mine",))


@pytest.mark.slow
def test_the_command_line_measures_what_a_package_offers(tokenizer, tmp_path):
    package(tmp_path, "neuronxa_callback.metrics", "mine", METRIC)
    corpus = ProbeConfig(languages=("deu_Latn",)).load()
    made = tokenizer_for(corpus)
    llama(vocab_size=len(made)).save_pretrained(tmp_path / "model")
    made.save_pretrained(tmp_path / "model")
    words = ["score", "model", "--languages", "de", "--n-pairs", "10", "--metrics", "nasca,mine"]
    code = "from neuronxa_callback.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--json"], cwd=tmp_path, timeout=300,
        env={**SHELL, "PYTHONPATH": f"{SHELL['PYTHONPATH']}:{tmp_path}"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [*report["metrics"]] == ["nasca", "mine"]


NAMES = ("", "Mine", "nasca", "overlap", "margins", "mean", "a/b", "navca_without_special_tokens",
         "x" * 61, 3, None)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_used_is_refused(registry, name):
    for register, measure in (
        (registry.register_metric, Metric()),
        (registry.register_neuron_statistic, own.breaks),
        (registry.register_diagnostic, own.breaks),
    ):
        with pytest.raises(ConfigError, match="must be at most 60 lower-case letters, digits and"):
            register(name, measure)


def test_a_name_has_one_kind_and_the_latest_measure(registry):
    registry.register_metric("mine", Metric(version=1))
    registry.register_metric("mine", Metric(version=2))
    assert registry.version_of("mine") == 2
    with pytest.raises(ConfigError, match="not be in use, got 'mine'"):
        registry.register_diagnostic("mine", own.breaks)


WRONG = ({"site": "up"}, {"value": 3}, {"weights": None}, {"vector": "x"}, {"similarity": ()},
         {"version": 0}, {"version": "2"})  # fmt: skip


@pytest.mark.parametrize("options", WRONG, ids=str)
def test_a_wrong_field_of_a_metric_is_named(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"^{name} must be "):
        Metric(**options)


def test_hidden_states_of_two_stacks_are_refused(registry):
    registry.register_metric("mine", Metric(site="hidden"))
    with pytest.raises(ConfigError, match="the hidden states that mine reads must be those of one"):
        ProbeConfig(metrics=("mine",), stack="both")
