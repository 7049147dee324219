"""Bibles as parallel text: one file per language, aligned by verse id."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from neuronxa_callback.corpus.languages import code_of_name, resolve
from neuronxa_callback.corpus.readers.files import (
    choose_languages,
    file_notes,
    files_by_code,
    require_folder,
    require_one_each,
)
from neuronxa_callback.corpus.readers.formats import refuse_other_formats
from neuronxa_callback.corpus.readers.lines import text_lines
from neuronxa_callback.corpus.readers.order import SPREAD, Candidates, filter_candidates
from neuronxa_callback.corpus.rows import PIVOT, ParallelRows, Row, log_notes, merge_rows
from neuronxa_callback.errors import CorpusError
from neuronxa_callback.option_checks import check_reader_options


@check_reader_options
def read_bible(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_bible``."""
    folder = require_folder(path)
    files = files_by_code(folder, code_of_bible)
    pivot, names = choose_languages(pivot, languages, list(files), folder)
    require_one_each(files, (pivot, *names), f"folder {str(folder)!r} has", "files", "keep one")
    used = {code: files[code][0] for code in (pivot, *names)}
    for file in used.values():
        refuse_other_formats(file, is_table=True)
    verses = [verse for verse, _, _ in _verses(used[pivot])]

    def pick(wanted: Sequence[int]) -> dict[int, Row]:
        rows = _verse_rows(used, [verses[i] for i in wanted])
        return dict(zip(wanted, rows, strict=True))

    candidates = Candidates(len(verses), order, unit="verse")
    parts = [filter_candidates(list(used), candidates, pick, n_pairs)]
    found = merge_rows(parts, pivot, folder.name, n_pairs)
    return log_notes(replace(found, notes=(*file_notes(folder, used), *found.notes)))


def code_of_bible(name: str) -> str | None:
    """The code in front of a name; before ``-x-bible`` it may also be a usual word.

    >>> code_of_bible("deu-x-bible-luther.txt"), code_of_bible("README.txt")
    ('deu_Latn', None)
    """
    code = re.split(r"[-.]", name)[0]
    is_sure = name.startswith(f"{code}-x-bible") and len(code) == 3
    return code_of_name(code) or (resolve(code) if is_sure else None)


def _verses(file: Path) -> Iterator[tuple[str, int, str]]:
    """Verse id, line number and text, without comments, blank lines and repeated ids."""
    seen: set[str] = set()
    for number, line in enumerate(text_lines(file), start=1):
        if line.startswith("#") or not line.strip():
            continue
        verse, tab, text = line.partition("\t")
        if not tab:
            raise CorpusError(
                f"a verse must be 'id<tab>text', but {file}:{number} has no tab; from_folder reads"
                " Bibles with a verse per line"
            )
        verse = verse.strip()
        if verse not in seen:
            seen.add(verse)
            yield verse, number, text.strip()


def _verse_rows(files: Mapping[str, Path], verses: Sequence[str]) -> Iterator[Row]:
    columns = []
    for file in files.values():
        column: dict[str, tuple[str | None, str]] = {
            verse: (None, f"verse {verse} of {file.name}") for verse in verses
        }
        for verse, number, text in _verses(file):
            if verse in column and text:
                column[verse] = (text, f"{file.name}:{number}")
        columns.append(column)
    for verse in verses:
        yield Row(*zip(*(column[verse] for column in columns), strict=True))
