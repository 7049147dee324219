"""``neuronxa score --pivot all``."""

import json

import pytest

from neuronxa_callback import AlignmentReport
from tests.helpers.shell import OPTIONS


def test_the_report_has_the_table_and_the_cost_is_said_beforehand(neuronxa, saved, tmp_path):
    plot = tmp_path / "languages.png"
    code, out, err = neuronxa("score", saved, *OPTIONS, "--pivot", "all", "--plot", plot, "--json")
    assert code == 0
    report = AlignmentReport.from_json(out)
    assert report.language_pairs["nasca"].languages == ("eng_Latn", "deu_Latn", "fra_Latn")
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert err.splitlines()[0].startswith(
        "neuronxa: all pairs of 3 languages: 1 besides those with the pivot; their vectors take"
    )
    _, bare, silent = neuronxa("score", saved, *OPTIONS, "--json")
    plain = json.loads(out)
    del plain["language_pairs"]
    assert AlignmentReport.from_json(json.dumps(plain)) == AlignmentReport.from_json(bare)
    assert silent == ""


def test_a_table_of_the_languages_follows_the_table_of_scores(neuronxa, saved, tmp_path):
    code, out, _ = neuronxa("score", saved, *OPTIONS, "--pivot", "all")
    assert code == 0
    words = " ".join(out.split())
    assert words.index("Alignment with eng_Latn") < words.index("nasca between languages in %")
    _, out, _ = neuronxa("score", saved, *OPTIONS)
    assert "between languages" not in " ".join(out.split())


def test_a_record_with_a_table_is_drawn(neuronxa, saved, run, tmp_path):
    record, file = tmp_path / "one.jsonl", tmp_path / "languages.svg"
    _, out, _ = neuronxa("score", saved, *OPTIONS, "--pivot", "all", "--json")
    record.write_text(out, encoding="utf-8")
    code, out, _ = neuronxa("picture", record, "--language-pairs", "-o", file)
    assert (code, out) == (0, f"{file}\n")
    assert file.read_text(encoding="utf-8").startswith("<?xml")
    code, out, err = neuronxa("picture", run, "--language-pairs", "-o", file)
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: a picture of all pairs of languages needs a report that")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--plot", "x.png"),
            "--plot draws the matrix of all pairs of languages, which is measured with --pivot all"
            " only; add --pivot all",
        ),
        (
            ("--pivot", "deu_Latn"),
            "pivot must be 'all', for the scores of all pairs of languages, or left out, for those"
            " with the pivot of the corpus, got 'deu_Latn'",
        ),
        (
            ("--pivot", "all", "--languages", "de"),
            "pivot='all' needs at least 2 languages besides the pivot, got only deu_Latn; name more"
            " languages, or leave pivot out",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(neuronxa, saved, options, message):
    code, out, err = neuronxa("score", saved, "--n-pairs", "10", *options)
    assert (code, out, err) == (2, "", f"neuronxa: {message}\n")
