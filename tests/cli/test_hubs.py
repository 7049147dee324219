"""The sentence of a hub, by line, where the corpus is at hand; never in the report."""

import json

import torch

from neuronxa_callback import AlignmentReport, ParallelCorpus
from neuronxa_callback.cli.hubs import hub_sentences, recorded_hub_sentences
from neuronxa_callback.cli.output import print_report
from neuronxa_callback.probe.fingerprint import pairs_digest
from neuronxa_callback.probe.results import ResultCollector, metric_scores
from tests.helpers.corpus_files import write_files

FRENCH_LINE = "Ceci est une phrase française."
LINE, PAIRS = 17, 40


def write_corpus(folder):
    """Files of 60 lines; the 17th of the English one is French."""
    english = [f"English line {k}." for k in range(60)]
    english[LINE - 1] = FRENCH_LINE
    columns = {code: [f"{code} line {k}." for k in range(60)] for code in ("deu", "swh")}
    files = {f"{code}_Latn__txt": lines for code, lines in columns.items()}
    return write_files(folder, eng_Latn__txt=english, **files)


def measured(corpus, hubs=("deu_Latn", "swh_Latn")):
    """A report of the first 40 pairs, in which the French sentence is near to everything."""
    pairs = {name: corpus.pairs[name][:PAIRS] for name in corpus.languages}
    collector = ResultCollector(margins=False)
    for name in corpus.languages:
        row = next(i for i, pair in enumerate(pairs[name]) if pair[0] == FRENCH_LINE)
        similarity = 0.1 + 0.8 * torch.eye(PAIRS)
        if name in hubs:
            similarity[row] = 0.95
            similarity[row, row] = 0.99
        collector.add_similarity("nasca", name, similarity.expand(2, -1, -1))
    scores = metric_scores(collector, "nasca", (0, 1), corpus)
    report = AlignmentReport(
        step=3,
        pivot=corpus.pivot,
        languages=corpus.languages,
        n_pairs=PAIRS,
        metrics={"nasca": scores},
        fingerprint={
            "definition": {"corpus": corpus.name, "digest": pairs_digest(pairs)},
            "model": {},
            "environment": {},
        },
        run={"order": corpus.order},
    )
    return report, pairs


def test_a_planted_hub_is_named_by_its_line_and_text(tmp_path, capsys):
    corpus = ParallelCorpus.read(write_corpus(tmp_path))
    report, pairs = measured(corpus)
    messages = hub_sentences(report, corpus, pairs)
    assert messages == [
        f"hub: eng_Latn.txt:{LINE}: {FRENCH_LINE!r} blocks {PAIRS - 1} of {PAIRS} pairs of deu_Latn"
        " in layer 0 of nasca, and is a hub in 1 more languages; drop or replace this line in all"
        " languages"
    ]
    print_report(report, as_json=False, as_csv=False, hubs=messages)
    out = capsys.readouterr().out
    assert messages[0] in out
    assert "pairs: spread over 60 lines, line 1 + " in out
    print_report(report, as_json=True, as_csv=False, hubs=messages)
    assert "phrase" not in capsys.readouterr().out
    assert "phrase" not in report.to_json()


def test_a_report_without_hubs_names_none(tmp_path):
    corpus = ParallelCorpus.read(write_corpus(tmp_path))
    report, pairs = measured(corpus, hubs=())
    assert hub_sentences(report, corpus, pairs) == []
    assert recorded_hub_sentences(report, str(tmp_path)) == []


def test_hubs_of_a_record_are_shown_where_their_corpus_is_given(tmp_path):
    report, pairs = measured(ParallelCorpus.read(write_corpus(tmp_path)))
    corpus = ParallelCorpus.read(tmp_path)
    read = AlignmentReport.from_json(report.to_json())
    expected = hub_sentences(report, corpus, pairs)
    assert recorded_hub_sentences(read, str(tmp_path)) == expected
    assert recorded_hub_sentences(read, None) == []
    write_files(tmp_path, deu_Latn__txt=[f"Zeile {k}." for k in range(60)])
    (message,) = recorded_hub_sentences(read, str(tmp_path))
    assert message == (
        f"the sentences of hubs are not shown: {tmp_path} does not begin with the pairs that were"
        " measured"
    )
    (message,) = recorded_hub_sentences(read, str(tmp_path / "nowhere"))
    assert message.startswith("the sentences of hubs are not shown: ")
    assert json.loads(report.to_json())["metrics"]["nasca"]["hubs"]["deu_Latn"][0][0] == "pivot"
