"""Writes a corpus as files from which the readers make an equal corpus; sentences to write."""

import csv
import json
from pathlib import Path

import pytest

from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.errors import CorpusError

ENGLISH = ["Good morning.", "Good night.", "Thank you.", "It is raining."]
GERMAN = ["Guten Morgen.", "Gute Nacht.", "Danke.", "Es regnet."]
FRENCH = ["Bonjour.", "Bonne nuit.", "Merci.", "Il pleut."]


def zipped(*columns):
    return tuple(zip(*columns, strict=True))


def as_read(lines):
    """Four lines in the order in which readers take them: spread over the file."""
    return [lines[i] for i in (0, 3, 2, 1)]


PAIRS = {
    "deu_Latn": zipped(as_read(ENGLISH), as_read(GERMAN)),
    "fra_Latn": zipped(as_read(ENGLISH), as_read(FRENCH)),
}
"""The pairs of files with these lines, as readers return them."""


def refusal(read, *args, **options):
    """The message with which a reader refuses its arguments."""
    with pytest.raises(CorpusError) as error:
        read(*args, **options)
    return str(error.value)


def write_files(folder, end="\n", last=True, **files):
    """Files of lines; in a name, two underscores mean a dot and ``__dash__`` means a dash."""
    for name, lines in files.items():
        text = end.join(lines) + (end if last else "")
        path = folder / name.replace("__dash__", "-").replace("__", ".")
        path.write_bytes(text.encode())
    return folder


def write_flores(folder, **options):
    return write_files(
        folder, **options, eng_Latn__dev=ENGLISH, deu_Latn__dev=GERMAN, fra_Latn__dev=FRENCH
    )


def to_folder(corpus: ParallelCorpus, path: str | Path) -> None:
    """One file ``<code>.txt`` per language; ``pairs.<code>-<pivot>.<code>`` if pivots differ.

    Raises:
        CorpusError: If a sentence contains a line break.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    for language, pairs in corpus.pairs.items():
        stem = "" if corpus.shared_pivot else f"pairs.{language}-{corpus.pivot}."
        ending = ".txt" if corpus.shared_pivot else ""
        for column, code in enumerate((corpus.pivot, language)):
            _lines(folder / f"{stem}{code}{ending}", [pair[column] for pair in pairs])


def to_tsv(corpus: ParallelCorpus, path: str | Path) -> None:
    """A table with one column per language, quoted as in csv.

    Raises:
        CorpusError: If the languages do not share their pivot sentences.
    """
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, delimiter="\t", lineterminator="\n")
        table.writerow([corpus.pivot, *corpus.languages])
        table.writerows(_rows(corpus))


def to_jsonl(corpus: ParallelCorpus, path: str | Path) -> None:
    """One JSON object per line, language -> sentence.

    Raises:
        CorpusError: If the languages do not share their pivot sentences.
    """
    codes = [corpus.pivot, *corpus.languages]
    records = (dict(zip(codes, row, strict=True)) for row in _rows(corpus))
    _lines(Path(path), [json.dumps(record, ensure_ascii=False) for record in records])


def _rows(corpus: ParallelCorpus) -> list[tuple[str, ...]]:
    if not corpus.shared_pivot:
        raise CorpusError(
            f"a table needs the same pivot sentences for all languages, {corpus.name} has several;"
            " use a folder"
        )
    shortest = corpus.select(n_pairs=corpus.n_pairs)
    columns = [[text for _, text in pairs] for pairs in shortest.pairs.values()]
    pivots = [pivot for pivot, _ in next(iter(shortest.pairs.values()))]
    return list(zip(pivots, *columns, strict=True))


def _lines(path: Path, texts: list[str]) -> None:
    for number, text in enumerate(texts, start=1):
        if "\n" in text:
            raise CorpusError(f"a sentence must be one line, but {path}:{number} has several")
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8", newline="\n")
