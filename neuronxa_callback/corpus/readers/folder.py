"""Parallel text in files of lines or records: folders like FLORES, pairs of files like Tatoeba."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.languages import code_of_name, resolve
from neuronxa_callback.corpus.readers.documents import document_of
from neuronxa_callback.corpus.readers.files import (
    ChosenFiles,
    choose_files,
    file_notes,
    find_code_files,
    list_contents,
    require_folder,
    require_one_each,
    resolve_in,
)
from neuronxa_callback.corpus.readers.joined import Cell, filter_joined
from neuronxa_callback.corpus.readers.order import SPREAD
from neuronxa_callback.corpus.readers.parallel_lines import read_group
from neuronxa_callback.corpus.readers.records import (
    IDS,
    RECORD_FILES,
    TEXTS,
    file_records,
    text_at,
)
from neuronxa_callback.corpus.rows import PIVOT, ParallelRows, log_notes, merge_rows
from neuronxa_callback.errors import CorpusError
from neuronxa_callback.option_checks import check_reader_options

TATOEBA = re.compile(r"(.+)\.([A-Za-z_]+)-([A-Za-z_]+)\.([A-Za-z_]+)")


@check_reader_options
def read_folder(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    extension: str | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_folder``."""
    folder = require_folder(path)
    (files, others), is_records = _code_files(folder, pivot, languages, extension)
    if not is_records:
        return _read_groups([files], folder, n_pairs, order, others)
    part = filter_joined({code: _text_column(file) for code, file in files.items()}, n_pairs, order)
    found = merge_rows([part], next(iter(files)), folder.name, n_pairs)
    return _noted(found, folder, files, others)


@check_reader_options
def read_tatoeba(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    order: str = SPREAD,
) -> ParallelRows:
    """See ``ParallelCorpus.from_tatoeba``."""
    path = Path(path)
    if path.is_dir():
        return _read_groups(_pair_files(path, pivot, languages), path, n_pairs, order)
    files, others = _prefix_files(path, pivot, languages)
    return _read_groups([files], path, n_pairs, order, others)


def folder_files(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    extension: str | None = None,
) -> list[dict[str, Path]]:
    """The one group of files of a folder, by code, the pivot first.

    Raises:
        CorpusError: If there is no such folder, file or language.
    """
    files, is_records = _code_files(require_folder(path), pivot, languages, extension)
    return [] if is_records else [files.by_code]


def tatoeba_files(
    path: str | Path, pivot: str = PIVOT, languages: Iterable[str] | None = None
) -> list[dict[str, Path]]:
    """Groups of files with parallel lines, by code, the pivot first.

    Raises:
        CorpusError: If there are none, one has no partner or a language is missing.
    """
    path = Path(path)
    if path.is_dir():
        return _pair_files(path, pivot, languages)
    return [_prefix_files(path, pivot, languages).by_code]


def _pair_files(path: Path, pivot: str, languages: Iterable[str] | None) -> list[dict[str, Path]]:
    """The files of each language in a folder of pairs of files, by code, the pivot first."""
    groups: dict[str, list[dict[str, Path]]] = {}
    for sides in _tatoeba_pairs(path):
        for own, code in (tuple(sides), tuple(sides)[::-1]):
            if _matches(own, pivot):
                groups.setdefault(code, []).append({own: sides[own], code: sides[code]})
    if not groups:
        raise CorpusError(
            f"folder {str(path)!r} has no pair of files like tatoeba.deu-eng.deu and"
            f" tatoeba.deu-eng.eng with the pivot {pivot!r}; it contains {list_contents(path)}"
        )
    names = list(groups) if languages is None else resolve_in(path, languages, list(groups))
    files = {code: [sides[code] for sides in groups[code]] for code in names}
    require_one_each(files, names, f"folder {str(path)!r} has", "pairs of files", "keep one")
    return [groups[code][0] for code in names]


def is_tatoeba(folder: Path) -> bool:
    """Whether a folder has files named like ``tatoeba.deu-eng.deu``."""
    matches = (TATOEBA.fullmatch(file.name.removesuffix(".gz")) for file in folder.iterdir())
    return any(match and match[4] in (match[2], match[3]) for match in matches)


def _read_groups(
    groups: Sequence[Mapping[str, Path]],
    path: Path,
    n_pairs: int | None,
    order: str,
    others: Sequence[Path] = (),
) -> ParallelRows:
    parts = [read_group(files, n_pairs, order) for files in groups]
    found = merge_rows(parts, parts[0].codes[0], path.name, n_pairs)
    used = {code: file for files in groups for code, file in files.items()}
    return _noted(found, path if path.is_dir() else path.parent, used, others)


def _noted(
    found: ParallelRows, folder: Path, used: Mapping[str, Path], others: Sequence[Path]
) -> ParallelRows:
    """The same rows with notes on the files; a warning if a language has further ones."""
    notes = (*file_notes(folder, used, others), *found.notes)
    return log_notes(replace(found, notes=notes), logging.WARNING if others else logging.INFO)


def _code_files(
    folder: Path, pivot: str, languages: Iterable[str] | None, extension: str | None
) -> tuple[ChosenFiles, bool]:
    """The file of each language in a folder, and whether they are tables of one language.

    Raises:
        CorpusError: If there is no file of a language, or one has several.
    """
    files = find_code_files(folder, extension)
    is_records = not files
    if is_records:
        files = find_code_files(folder, extension, RECORD_FILES)
    if not files:
        inner = next((path for path in sorted(folder.iterdir()) if _holds_languages(path)), None)
        hint = "" if inner is None else f"; name one of its folders, such as {str(inner)!r}"
        raise CorpusError(
            f"folder {str(folder)!r} has no file named by a language, such as deu_Latn.dev or"
            f" de.txt; it contains {list_contents(folder)}{hint}"
        )
    return choose_files(files, pivot, languages, folder), is_records


def _holds_languages(path: Path) -> bool:
    """Whether a path is a folder with a file that is named by a language."""
    return path.is_dir() and bool(
        find_code_files(path) or find_code_files(path, None, RECORD_FILES)
    )


def _text_column(file: Path) -> dict[Any, Cell]:
    """Id -> the sentence in a table of one language (FLORES+); the row where there is no id.

    Raises:
        CorpusError: If it has no column of text, or an id twice.
    """
    column: dict[Any, Cell] = {}
    for number, (place, record) in enumerate(file_records(file), start=1):
        text = next((key for key in TEXTS if key in record), None)
        if text is None:
            raise CorpusError(
                f"a table of one language must have a column 'text', but {place} of {file} has"
                f" {', '.join(map(repr, record))}"
            )
        key = next((record[key] for key in IDS if key in record), number)
        if key in column:
            raise CorpusError(f"an id must be unique, but {file} has {key!r} twice: {place}")
        column[key] = Cell(text_at(record, text), place, document_of(record))
    return column


def _prefix_files(path: Path, pivot: str, languages: Iterable[str] | None) -> ChosenFiles:
    """The file ``<path>.<code>`` of each language, the pivot first."""
    files: dict[str, list[Path]] = {}
    if path.parent.is_dir():
        for file in sorted(path.parent.iterdir()):
            name = file.name.removesuffix(".gz")
            code = code_of_name(name.removeprefix(f"{path.name}."))
            if name.startswith(f"{path.name}.") and code is not None:
                files.setdefault(code, []).append(file)
    if not files:
        raise CorpusError(f"there is no folder {str(path)!r} and no file {path.name}.<code>")

    def part(name: str) -> str:
        return name.removeprefix(f"{path.name}.")

    return choose_files(files, pivot, languages, path, part)


def _tatoeba_pairs(folder: Path) -> Iterator[dict[str, Path]]:
    """Both codes and files of each pair of files.

    Raises:
        CorpusError: If a file has no partner.
    """
    files: dict[tuple[str, str, str], dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        match = TATOEBA.fullmatch(file.name.removesuffix(".gz"))
        if match and match[4] in (match[2], match[3]):
            files.setdefault((match[1], match[2], match[3]), {})[match[4]] = file
    for (stem, first, second), sides in files.items():
        for side in (first, second):
            if side not in sides:
                single = next(iter(sides.values()))
                raise CorpusError(
                    f"{single} has no partner {stem}.{first}-{second}.{side} in the same folder"
                )
        yield {code_of_name(side) or side: sides[side] for side in (first, second)}


def _matches(code: str, name: str) -> bool:
    """Whether a name means the language of the code."""
    try:
        return resolve(name, [code]) == code
    except CorpusError:
        return False
