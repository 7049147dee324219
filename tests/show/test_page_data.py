"""The file of the page: packed numbers, no foreign markup, and errors."""

import math
import sys
from importlib import resources

import numpy as np
import pytest

from neuronxa_callback import NeuronXAError
from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.show import palette
from neuronxa_callback.show.page.page import AFTER_PLOTLY, BEFORE_PLOTLY, page
from tests.helpers.pages import EVIL, LANGUAGES, NASTY, array, gaps, named, rising, unpacked
from tests.helpers.reports import make_report


def test_counts_are_packed_as_bytes_and_nan_is_none_of_them():
    plain, raw = unpacked(page({"main": rising()}))
    metric = plain["runs"][0]["metrics"]["nasca"]
    counts = array(metric["counts"], raw)
    assert counts.dtype == np.uint8
    for t, report in enumerate(rising()):
        for k, name in enumerate(LANGUAGES):
            known = [math.nan if count == 255 else count / 20 for count in counts[t, k]]
            assert gaps(known) == gaps(report.curve("nasca", name))


def test_the_colours_are_those_of_the_pictures():
    plain, _ = unpacked(page({"main": rising()}))
    assert plain["palette"] == {"light": list(palette.LIGHT), "dark": list(palette.DARK)}
    assert len(palette.LIGHT) == len(palette.DARK)


def test_intervals_of_layers_are_packed_as_bytes():
    plain, raw = unpacked(page({"main": rising()}))
    ends = array(plain["runs"][0]["metrics"]["nasca"]["layer_intervals"], raw)
    assert ends.dtype == np.uint8
    for t, report in enumerate(rising()):
        for k, name in enumerate(LANGUAGES):
            for layer, found in zip(report.layers("nasca"), ends[t, k], strict=True):
                wanted = report.layer_interval("nasca", name, layer)
                known = [math.nan if end == 255 else end / 250 for end in found]
                assert known == pytest.approx(wanted, abs=0.0021, nan_ok=True)


def test_many_pairs_take_two_bytes():
    plain, raw = unpacked(page({"main": [make_report(scores={"deu_Latn": 1.0}, n_pairs=255)]}))
    counts = array(plain["runs"][0]["metrics"]["nasca"]["counts"], raw)
    assert (counts.dtype, int(counts.max())) == (np.uint16, 255)


def test_change_is_the_paired_one_since_the_first_report():
    reports = rising(gap=False)
    plain, raw = unpacked(page({"main": reports}))
    numbers = array(plain["runs"][0]["metrics"]["nasca"]["numbers"], raw)
    column = plain["columns"].index("change")
    assert np.isnan(numbers[0, :, column]).all()
    for t, report in enumerate(reports[1:], start=1):
        wanted = [
            report.score("nasca", name) - reports[0].score("nasca", name)
            for name in (*LANGUAGES, None)
        ]
        assert numbers[t, :, column] == pytest.approx(wanted, abs=1e-6)


def test_a_loss_is_at_the_step_it_was_logged_at():
    """Without ``loss_step``, the loss is at the step of the report."""
    runs = [{"loss": None, "loss_step": None}, {"loss": 4.5, "loss_step": 90}, {"loss": 4.0}]
    reports = [make_report(100 * t, run=run) for t, run in enumerate(runs)]
    run = unpacked(page({"main": reports}))[0]["runs"][0]
    assert run["losses"] == [None, 4.5, 4.0]
    assert run["loss_steps"] == [0, 90, 200]


def test_no_text_of_a_report_is_in_the_file_as_markup():
    text = page({EVIL: [named(NASTY)]}, title=EVIL, notes=[NASTY])
    assert EVIL not in text
    assert NASTY not in text
    assert text.count("<title>&lt;img") == 1
    own = text.count("<script>")
    assert own == page({"main": [make_report()]}).count("<script>")


def test_the_scripts_never_parse_markup():
    names = (*BEFORE_PLOTLY, *AFTER_PLOTLY)
    assert len(names) == 19
    assert sum(name.startswith("panels/") for name in names) == 5
    for name in names:
        script = (resources.files("neuronxa_callback.show.page") / name).read_text(encoding="utf-8")
        for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in script


def notes_on(one, other):
    """The notes of a page of two runs with the given entries in their definitions."""
    runs = {"a": [make_report(definition=one)], "b": [make_report(definition=other)]}
    return unpacked(page(runs))[0]["notes"]


def test_runs_on_the_same_sentences_are_comparable_whatever_their_corpus_is_called():
    one, other = ({"corpus": name, "digest": "5e"} for name in ("a.tsv", "copy.tsv"))
    assert notes_on(one, other) == []
    assert notes_on(one, other | {"pivot": "fra_Latn"}) == [
        "a and b do not measure the same thing, so their scores are not comparable"
        " (different: pivot)"
    ]


@pytest.mark.parametrize("digests", [("5e", "6f"), (None, None)])
def test_runs_on_other_sentences_are_not(digests):
    one, other = (
        {"corpus": name, "digest": digest} for name, digest in zip("ab", digests, strict=True)
    )
    assert len(notes_on(one, other)) == 1
    assert "corpus" in notes_on(one, other)[0]


def test_nothing_to_show_is_refused():
    with pytest.raises(ConfigError) as error:
        page({})
    assert str(error.value) == "a page needs at least one run, got none"
    with pytest.raises(ConfigError) as error:
        page({"main": [make_report()], "other": []})
    assert str(error.value) == "every run on a page needs at least one report, 'other' has none"


def test_one_run_of_two_definitions_is_refused():
    with pytest.raises(FingerprintError) as error:
        page({"main": [make_report(0), make_report(1, definition={"corpus": "other"})]})
    assert str(error.value) == (
        "reports of one curve must agree in definition, but corpus is 'custom' in one"
        " and 'other' in the other"
    )


def test_without_plotly_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(NeuronXAError) as error:
        page({"main": [make_report()]})
    assert str(error.value) == ("the page needs plotly, which is not installed: pip install plotly")
