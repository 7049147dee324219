"""Bibles as parallel text: one file per language, aligned by verse id."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from neuronxa_callback.corpus.languages import code_of_name
from neuronxa_callback.corpus.readers.files import choose_languages, files_by_code, require_folder
from neuronxa_callback.corpus.readers.lines import text_lines
from neuronxa_callback.corpus.rows import (
    MAX_EXTRA,
    PIVOT,
    FilteredRows,
    ParallelRows,
    Row,
    filter_rows,
    merge_rows,
)
from neuronxa_callback.errors import CorpusError


def read_bible(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_bible``."""
    folder = require_folder(path)
    files = files_by_code(folder, lambda name: code_of_name(re.split(r"[-.]", name)[0]))
    pivot, names = choose_languages(pivot, languages, list(files), folder)
    used = {code: files[code] for code in (pivot, *names)}
    order = [verse for verse, _, _ in _verses(used[pivot])]
    missing = _missing_verses(order, used.values())
    common = [verse for verse in order if verse not in missing]
    limit = len(common) if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        part = filter_rows(list(used), _verse_rows(used, common[:limit]), n_pairs)
        if n_pairs is None or len(part.rows) >= n_pairs or limit >= len(common):
            break
        limit *= 2
    seen = order if limit >= len(common) else order[: order.index(common[limit])]
    dropped = (*part.dropped, *(missing[verse] for verse in seen if verse in missing))
    return merge_rows([FilteredRows(part.codes, part.rows, dropped)], pivot, folder.name, n_pairs)


def _missing_verses(order: Sequence[str], files: Iterable[Path]) -> dict[str, str]:
    """Verse id -> message, for verses of the pivot that some file does not have."""
    missing: dict[str, str] = {}
    for file in files:
        present = {verse for verse, _, text in _verses(file) if text}
        for verse in order:
            if verse not in present:
                missing.setdefault(verse, f"verse {verse} is missing in {file.name}")
    return missing


def _verses(file: Path) -> Iterator[tuple[str, int, str]]:
    """Verse id, line number and text, without comments, blank lines and repeated ids."""
    seen: set[str] = set()
    for number, line in enumerate(text_lines(file), start=1):
        if line.startswith("#") or not line.strip():
            continue
        verse, tab, text = line.partition("\t")
        if not tab:
            raise CorpusError(f"a verse must be 'id<tab>text', but {file}:{number} has no tab")
        verse = verse.strip()
        if verse not in seen:
            seen.add(verse)
            yield verse, number, text.strip()


def _verse_rows(files: Mapping[str, Path], verses: Sequence[str]) -> Iterator[Row]:
    columns = []
    for file in files.values():
        column: dict[str, tuple[str, str]] = dict.fromkeys(verses, ("", ""))
        for verse, number, text in _verses(file):
            if verse in column:
                column[verse] = (text, f"{file.name}:{number}")
        columns.append(column)
    for verse in verses:
        yield Row(*zip(*(column[verse] for column in columns), strict=True))
