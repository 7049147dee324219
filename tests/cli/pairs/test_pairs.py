"""``neuronxa pairs``: pairs by how many layers align them, rivals, changes, and no text unasked."""

import csv
import io
import json

import pytest

from neuronxa_callback import ParallelCorpus, read_reports
from tests.helpers.corpus_files import to_folder
from tests.helpers.reports import make_report
from tests.helpers.shell import OPTIONS

GERMAN = ParallelCorpus.builtin(languages=("deu_Latn",)).pairs["deu_Latn"][:10]


def bits(mask):
    return [mask >> i & 1 for i in range(10)]


def aligned_by_pair(report, language="deu_Latn"):
    """Pair (from 1) -> the layers that align it."""
    rows = zip(*(bits(mask) for mask in report.metrics["nasca"].hits[language]), strict=True)
    layers = report.layers("nasca")
    return {
        i: [layer for layer, hit in zip(layers, row, strict=True) if hit]
        for i, row in enumerate(rows, start=1)
    }


def has_text(output):
    """Whether the beginning of a sentence is there; a table breaks long ones."""
    return any(text[:12] in output for pair in GERMAN for text in pair)


def listed(neuronxa, *arguments):
    code, out, err = neuronxa("pairs", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_a_model_is_measured_and_its_least_aligned_pairs_come_first(neuronxa, saved):
    options = ("--language", "German", "--n-pairs", "10")
    found = listed(neuronxa, saved, *options)
    assert (found["metric"], found["language"]) == ("nasca", "deu_Latn")
    _, out, _ = neuronxa("score", saved, *OPTIONS, "--json")
    report = json.loads(out)
    masks = [int(mask, 16) for mask in report["metrics"]["nasca"]["hits"]["deu_Latn"]]
    counts = [sum(column) for column in zip(*map(bits, masks), strict=True)]
    assert [(row["pair"], row["aligned"]) for row in found["pairs"]] == sorted(
        enumerate(counts, start=1), key=lambda item: (item[1], item[0])
    )
    for row in found["pairs"]:
        fails = row["layers"] - row["aligned"]
        assert row["layers"] == 3
        assert (row["rival_pair"] is None) == (fails == 0)
        if fails:
            assert row["rival_side"] in ("pivot", "target")
            assert row["rival_pair"] in set(range(1, 11)) - {row["pair"]}
            assert 1 <= row["rival_layers"] <= fails


def test_files_and_json_have_sentences_only_if_they_are_asked_for(neuronxa, saved, tmp_path):
    file = tmp_path / "pairs.csv"
    options = (saved, "--language", "de", "--n-pairs", "10")
    code, out, err = neuronxa("pairs", *options)
    assert (code, err) == (0, "")
    assert has_text(out)
    assert "wins where it fails" in out
    for more in ((), ("--csv",), ("--json",)):
        code, out, _ = neuronxa("pairs", *options, *more, "-o", file)
        assert (code, out) == (0, f"{file}\n")
        assert not has_text(file.read_text(encoding="utf-8"))
        neuronxa("pairs", *options, *more, "-o", file, "--with-text")
        assert has_text(file.read_text(encoding="utf-8"))
    _, out, _ = neuronxa("pairs", *options, "--csv", "--with-text")
    for row in csv.DictReader(io.StringIO(out)):
        assert (row["sentence"], row["translation"]) == GERMAN[int(row["pair"]) - 1]
        if row["rival_pair"]:
            side = row["rival_side"] == "target"
            assert row["rival_text"] == GERMAN[int(row["rival_pair"]) - 1][side]


def test_two_reports_of_a_run_show_which_layers_were_gained_and_lost(neuronxa, run):
    first, *_, last = read_reports(run)
    before, after = aligned_by_pair(first), aligned_by_pair(last)
    found = listed(neuronxa, f"{run}@last", "--language", "de", "--against", f"{run}@first")
    assert found["steps"] == [first.step, last.step]
    assert len(found["pairs"]) == 10
    for row in found["pairs"]:
        one, other = before[row["pair"]], after[row["pair"]]
        assert (row["before"], row["aligned"]) == (len(one), len(other))
        assert row["gained"] == [layer for layer in other if layer not in one]
        assert row["lost"] == [layer for layer in one if layer not in other]
    changes = [row["aligned"] - row["before"] for row in found["pairs"]]
    assert changes == sorted(changes)


def test_a_model_beside_a_report_is_measured_as_the_report_was(neuronxa, run):
    last = read_reports(run)[-1]
    checkpoint = run / f"checkpoint-{last.step}"
    found = listed(neuronxa, checkpoint, "--language", "de", "--against", f"{run}@last")
    assert found["steps"] == [last.step, last.step]
    assert all(row["gained"] == row["lost"] == [] for row in found["pairs"])
    assert [row["aligned"] for row in found["pairs"]] == [
        len(aligned_by_pair(last)[row["pair"]]) for row in found["pairs"]
    ]


def test_a_record_shows_sentences_but_not_rivals_that_it_does_not_have(neuronxa, run):
    code, out, err = neuronxa("pairs", run, "--language", "de", "--top", "3")
    assert code == 0
    assert has_text(out)
    assert "3 of 10 pairs" in out
    assert err == (
        'neuronxa: the report has no rivals; a run records them with neurons=["rivals"]\n'
    )


def test_all_languages_are_listed_together(neuronxa, run):
    last = read_reports(run)[-1]
    found = listed(neuronxa, run, "--with-text")
    by_language = [aligned_by_pair(last, name) for name in last.languages]
    for row in found["pairs"]:
        assert row["aligned"] == sum(len(each[row["pair"]]) for each in by_language)
        assert row["layers"] == 3 * len(last.languages)
        assert row["sentence"] == GERMAN[row["pair"] - 1][0]


def recorded(folder, corpus, **options):
    """A record with one report on the first 20 pairs of a corpus."""
    from neuronxa_callback.probe.fingerprint import pairs_digest

    pairs = {name: corpus.pairs[name][:20] for name in corpus.languages}
    definition = {"corpus": corpus.name, "digest": pairs_digest(pairs)} | options
    scores = dict.fromkeys(corpus.languages, 0.5)
    report = make_report(7, scores, n_pairs=20, definition=definition, layers=4)
    (folder / "reports.jsonl").write_text(report.to_json() + "\n", encoding="utf-8")
    return folder


def test_a_corpus_of_ones_own_is_shown_only_where_its_digest_is_equal(neuronxa, tmp_path):
    to_folder(ParallelCorpus.builtin(languages=("deu_Latn",)), tmp_path / "my")
    corpus = ParallelCorpus.read(tmp_path / "my", pivot="eng_Latn")
    run = recorded(tmp_path, corpus)
    text = corpus.pairs["deu_Latn"][19][0][:12]
    _, out, err = neuronxa("pairs", run, "--language", "de")
    assert text not in out
    assert "are shown with --corpus\n" in err
    options = (run, "--language", "de", "--corpus", tmp_path / "my")
    _, out, err = neuronxa("pairs", *options)
    assert text in out
    assert "--corpus" not in err
    file = tmp_path / "my" / "deu_Latn.txt"
    file.write_text("\n".join(f"Zeile {k}." for k in range(100)), encoding="utf-8")
    _, out, err = neuronxa("pairs", *options)
    assert text not in out
    assert "the sentences are not shown: " in err
    assert "does not begin with the pairs that were measured" in err


def test_layers_with_nan_are_not_counted(neuronxa, tmp_path):
    scores = {"deu_Latn": (1.0, float("nan"), 0.0, 0.5)}
    report = make_report(3, scores, n_pairs=20)
    (tmp_path / "reports.jsonl").write_text(report.to_json() + "\n", encoding="utf-8")
    found = listed(neuronxa, tmp_path, "--language", "de")
    assert {row["layers"] for row in found["pairs"]} == {3}
    assert [row["aligned"] for row in found["pairs"]] == [1] * 10 + [2] * 10


REFUSALS = {
    "no language": (("--against", "{run}"), "--against compares the pairs of one language"),
    "unknown language": (("--language", "swh_Latn"), "swh_Latn"),
    "unknown metric": (("--language", "de", "--metric", "nsca"), "unknown metric: 'nsca'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_listed_is_one_sentence(neuronxa, run, case):
    arguments, words = REFUSALS[case]
    code, out, err = neuronxa("pairs", run, *(each.format(run=run) for each in arguments))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_pivots_of_their_own_need_the_name_of_a_language(neuronxa, tmp_path):
    report = make_report(3, shared=False)
    (tmp_path / "reports.jsonl").write_text(report.to_json() + "\n", encoding="utf-8")
    code, _, err = neuronxa("pairs", tmp_path)
    assert (code, err) == (
        2,
        "neuronxa: the languages of this report have pivot sentences of their own, so their pairs"
        " cannot be listed together; name one with --language\n",
    )


def test_models_with_other_layers_cannot_be_compared_pair_by_pair(neuronxa, tmp_path):
    for name, layers in (("a", 4), ("b", 5)):
        report = make_report(3, layers=layers, n_pairs=20)
        (tmp_path / f"{name}.jsonl").write_text(report.to_json() + "\n", encoding="utf-8")
    sides = (tmp_path / "a.jsonl", "--against", tmp_path / "b.jsonl")
    code, _, err = neuronxa("pairs", *sides, "--language", "de")
    assert (code, err.count("\n")) == (2, 1)
    assert "both models must have the same layers, got 5 and 4" in err


def test_what_is_neither_a_model_nor_a_report_is_one_sentence(neuronxa, tmp_path):
    code, _, err = neuronxa("pairs", tmp_path, "--language", "de")
    assert (code, err.count("\n")) == (2, 1)
