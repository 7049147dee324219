"""Names, kinds and entry points of registered measures."""

import json
import subprocess
import sys
import textwrap

import pytest

from neuronxa_callback import ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.extend import Metric
from tests.helpers.extend import measures as own
from tests.helpers.runs import SHELL, tokenizer_for
from tests.helpers.tiny import llama


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
    report = own.run(tokenizer, metrics=("mine",), neurons=("layers",), diagnostics=("pairs",))
    assert 0 <= report.score("mine") <= 1
    assert report.diagnostics["layers"] == 3
    assert report.diagnostics["pairs"] == {"mine": dict.fromkeys(own.CORPUS.languages, 10)}
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
