"""Parallel text in files of lines: folders like FLORES, pairs of files like Tatoeba.

With ``n_pairs`` a file is read only as far as needed. Files of up to ``FULL_COUNT_BYTES`` are
still counted to their end and compared, since one missing line shifts every pair behind it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from neuronxa_callback.corpus.languages import code_of_name, resolve
from neuronxa_callback.corpus.readers.files import (
    choose_languages,
    find_code_files,
    list_contents,
    require_folder,
    resolve_in,
)
from neuronxa_callback.corpus.readers.lines import count_lines, raw_lines, read_lines
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

FULL_COUNT_BYTES = 8 << 20
UNCOUNTED = 1 << 62
"""The line count of a file that was not read to its end."""
TATOEBA = re.compile(r"(.+)\.([A-Za-z_]+)-([A-Za-z_]+)\.([A-Za-z_]+)")


def read_folder(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    extension: str | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_folder``."""
    return _read_groups(folder_files(path, pivot, languages, extension), Path(path), n_pairs)


def read_tatoeba(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
) -> ParallelRows:
    """See ``ParallelCorpus.from_tatoeba``."""
    return _read_groups(tatoeba_files(path, pivot, languages), Path(path), n_pairs)


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
    folder = require_folder(path)
    files = find_code_files(folder, extension)
    if not files:
        raise CorpusError(
            f"folder {str(folder)!r} has no file named by a language, such as deu_Latn.dev or"
            f" de.txt; it contains {list_contents(folder)}"
        )
    pivot, names = choose_languages(pivot, languages, list(files), folder)
    return [{code: files[code] for code in (pivot, *names)}]


def tatoeba_files(
    path: str | Path, pivot: str = PIVOT, languages: Iterable[str] | None = None
) -> list[dict[str, Path]]:
    """Groups of files with parallel lines, by code, the pivot first.

    Raises:
        CorpusError: If there are none, one has no partner or a language is missing.
    """
    path = Path(path)
    if not path.is_dir():
        return [_prefix_files(path, pivot, languages)]
    groups: dict[str, dict[str, Path]] = {}
    for sides in _tatoeba_pairs(path):
        for own, code in (tuple(sides), tuple(sides)[::-1]):
            if _matches(own, pivot):
                if code in groups:
                    raise CorpusError(
                        f"folder {str(path)!r} has several pairs of files for {code}:"
                        f" {groups[code][code].name}, {sides[code].name}; keep one"
                    )
                groups[code] = {own: sides[own], code: sides[code]}
    if not groups:
        raise CorpusError(
            f"folder {str(path)!r} has no pair of files like tatoeba.deu-eng.deu and"
            f" tatoeba.deu-eng.eng with the pivot {pivot!r}; it contains {list_contents(path)}"
        )
    names = list(groups) if languages is None else resolve_in(path, languages, list(groups))
    return [groups[code] for code in names]


def is_tatoeba(folder: Path) -> bool:
    """Whether a folder has files named like ``tatoeba.deu-eng.deu``."""
    return any(TATOEBA.fullmatch(file.name.removesuffix(".gz")) for file in folder.iterdir())


def _read_groups(
    groups: Sequence[Mapping[str, Path]], path: Path, n_pairs: int | None
) -> ParallelRows:
    parts = [_read_group(files, n_pairs) for files in groups]
    return merge_rows(parts, parts[0].codes[0], path.name, n_pairs)


def _read_group(files: Mapping[str, Path], n_pairs: int | None) -> FilteredRows:
    """Filtered rows of files with parallel lines; doubles the limit until there are enough."""
    limit = None if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        columns = {code: read_lines(file, limit) for code, file in files.items()}
        common = _common_length(files, columns, limit)
        part = filter_rows(list(files), _line_rows(files, columns, common), n_pairs)
        if limit is None or len(part.rows) == n_pairs or common < limit:
            return part
        limit *= 2


def _line_rows(
    files: Mapping[str, Path], columns: Mapping[str, Sequence[str]], common: int
) -> Iterator[Row]:
    names = [file.name for file in files.values()]
    for i, texts in enumerate(islice(zip(*columns.values(), strict=False), common)):
        yield Row(texts, [f"{name}:{i + 1}" for name in names])


def _common_length(
    files: Mapping[str, Path], columns: Mapping[str, Sequence[str]], limit: int | None
) -> int:
    """The number of parallel lines; blank lines at the end of a file are optional.

    Raises:
        CorpusError: If a file has fewer lines than another one needs.
    """
    counts = []
    for code, file in files.items():
        lines = columns[code]
        if limit is None or len(lines) < limit:
            counts.append(count_lines(lines))
        elif file.stat().st_size <= FULL_COUNT_BYTES:
            counts.append(count_lines(raw_lines(file)))
        else:
            counts.append((limit, UNCOUNTED))
    needed = max(last for last, _ in counts)
    for file, (_, total) in zip(files.values(), counts, strict=True):
        if total < needed:
            k = next(k for k, (last, _) in enumerate(counts) if last == needed)
            longest, at_least = list(files.values())[k], "at least " * (counts[k][1] == UNCOUNTED)
            raise CorpusError(
                "files of one corpus must have the same number of lines, but"
                f" {longest} has {at_least}{needed} and {file} has {total}"
            )
    return min(needed, min(map(len, columns.values())))


def _prefix_files(path: Path, pivot: str, languages: Iterable[str] | None) -> dict[str, Path]:
    """The files ``<path>.<code>``, by code, the pivot first."""
    files: dict[str, Path] = {}
    if path.parent.is_dir():
        for file in sorted(path.parent.iterdir()):
            name = file.name.removesuffix(".gz")
            code = code_of_name(name.removeprefix(f"{path.name}."))
            if name.startswith(f"{path.name}.") and code is not None:
                files[code] = file
    if not files:
        raise CorpusError(f"there is no folder {str(path)!r} and no file {path.name}.<code>")
    pivot, names = choose_languages(pivot, languages, list(files), path)
    return {code: files[code] for code in (pivot, *names)}


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
