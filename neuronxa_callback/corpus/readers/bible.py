"""Bibles as parallel text: one file per language, parallel by verse id."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.corpus.parallel import PIVOT, ParallelCorpus
from neuronxa_callback.corpus.readers.files import by_code, chosen, existing_folder
from neuronxa_callback.corpus.readers.lines import decoded
from neuronxa_callback.corpus.rows import MAX_EXTRA, FilteredRows, Row, corpus_of, filter_rows
from neuronxa_callback.errors import CorpusError


def from_bible(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
) -> ParallelCorpus:
    """A folder of Bibles as in PBC and sPBC: lines ``verse id <tab> text``, parallel by verse id.

    A verse that is missing or empty in any language is dropped in all of them; lines that begin
    with ``#`` are comments. Only verses that will be used are held in memory.

    Args:
        path: The folder of files that begin with a language's code (``deu-x-bible-luther.txt``).
        pivot: The language that the others are compared with; its order of verses counts.
        languages: Which ones; None for all there are.
        n_pairs: The first n usable verses; None for all.

    Raises:
        CorpusError: If there is no such folder or language, or a line has no tab.
    """
    folder = existing_folder(path)
    files = by_code(folder, lambda name: codes_of.of_file(re.split(r"[-.]", name)[0]))
    pivot, names = chosen(pivot, languages, list(files), folder)
    used = {code: files[code] for code in (pivot, *names)}
    order = [verse for verse, _, _ in _verses(used[pivot])]
    absent: dict[str, str] = {}
    for file in used.values():
        present = {verse for verse, _, text in _verses(file) if text}
        for verse in order:
            if verse not in present:
                absent.setdefault(verse, f"verse {verse} is missing in {file.name}")
    common = [verse for verse in order if verse not in absent]
    most = len(common) if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        part = filter_rows(list(used), _verse_rows(used, common[:most]), n_pairs)
        if n_pairs is None or len(part.rows) >= n_pairs or most >= len(common):
            break
        most *= 2
    seen = order if most >= len(common) else order[: order.index(common[most])]
    missing = tuple(absent[verse] for verse in seen if verse in absent)
    part = FilteredRows(part.codes, part.rows, (*part.dropped, *missing))
    return corpus_of([part], pivot, folder.name, n_pairs)


def _verses(file: Path) -> Iterator[tuple[str, int, str]]:
    """Verse id, line number and text, without comments, blank lines and repeated ids."""
    seen: set[str] = set()
    for number, line in enumerate(decoded(file), start=1):
        if line.startswith("#") or not line.strip():
            continue
        verse, tab, text = line.partition("\t")
        if not tab:
            raise CorpusError(f"a verse must be 'id<tab>text', {file}:{number} has no tab")
        verse = verse.strip()
        if verse not in seen:
            seen.add(verse)
            yield verse, number, text.strip()


def _verse_rows(files: Mapping[str, Path], verses: Sequence[str]) -> Iterator[Row]:
    columns = []
    for file in files.values():
        wanted: dict[str, tuple[str, str]] = dict.fromkeys(verses, ("", ""))
        for verse, number, text in _verses(file):
            if verse in wanted:
                wanted[verse] = (text, f"{file.name}:{number}")
        columns.append(wanted)
    for verse in verses:
        yield Row([each[verse][0] for each in columns], [each[verse][1] for each in columns])
