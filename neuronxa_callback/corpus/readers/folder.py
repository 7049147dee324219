"""Parallel text in files of lines: folders like FLORES, pairs like Tatoeba.

With ``n_pairs`` a file is read only as far as that many usable pairs need; the line counts of
files up to ``SMALL`` bytes are compared to the end all the same, since one missing line shifts
every pair behind it.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.corpus.parallel import PIVOT, ParallelCorpus
from neuronxa_callback.corpus.readers.files import (
    chosen,
    code_files,
    contents,
    existing_folder,
    resolved,
)
from neuronxa_callback.corpus.readers.lines import extent, raw_lines, read_lines
from neuronxa_callback.corpus.rows import MAX_EXTRA, FilteredRows, Row, corpus_of, filter_rows
from neuronxa_callback.errors import CorpusError

SMALL = 8 << 20
TATOEBA = re.compile(r"(.+)\.([A-Za-z_]+)-([A-Za-z_]+)\.([A-Za-z_]+)")


def from_folder(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
    extension: str | None = None,
) -> ParallelCorpus:
    """A folder with one file per language, where equal line numbers are translations.

    Args:
        path: The folder: ``<code>.<ext>`` (FLORES-200 ``deu_Latn.dev``), ``dev.<code>`` (FLORES+),
            each also with ``.gz``; codes in any usual form.
        pivot: The language that the others are compared with.
        languages: Which ones; None for all there are.
        n_pairs: The first n usable pairs, reading no further; None for all.
        extension: Which files, where a language has several (``dev``, ``devtest``).

    Raises:
        CorpusError: If there is no such folder, file or language, or line counts differ.
    """
    folder = existing_folder(path)
    files = code_files(folder, extension)
    if not files:
        raise CorpusError(
            f"folder {str(folder)!r} has no file named by a language, such as deu_Latn.dev or"
            f" de.txt; it holds {contents(folder)}"
        )
    pivot, names = chosen(pivot, languages, list(files), folder)
    part = _sifted({code: files[code] for code in (pivot, *names)}, n_pairs)
    return corpus_of([part], pivot, folder.name, n_pairs)


def from_tatoeba(
    path: str | Path,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    n_pairs: int | None = None,
) -> ParallelCorpus:
    """Pairs of files per language, each with pivot sentences of its own.

    Args:
        path: A folder of ``tatoeba.deu-eng.deu`` and ``tatoeba.deu-eng.eng``, or a prefix of
            files: ``data/train`` for ``data/train.de`` and ``data/train.en``.
        pivot: The language that the others are compared with.
        languages: Which ones; None for all there are.
        n_pairs: The first n usable pairs of every language; None for all.

    Raises:
        CorpusError: If there is no such folder, file or language, or line counts differ.
    """
    path = Path(path)
    files = tatoeba_files(path, pivot, languages)
    parts = [_sifted(each, n_pairs) for each in files]
    return corpus_of(parts, parts[0].codes[0], path.name, n_pairs)


def tatoeba_files(
    path: Path, pivot: str = PIVOT, languages: Iterable[str] | None = None
) -> list[dict[str, Path]]:
    """Groups of files with equal lines, by code, the pivot first.

    Raises:
        CorpusError: If there are none, one has no partner or a language is not there.
    """
    if not path.is_dir():
        return [_prefixed(path, pivot, languages)]
    found: dict[str, dict[str, Path]] = {}
    for sides in _tatoeba_pairs(path):
        for own, code in (tuple(sides), tuple(sides)[::-1]):
            if _is(own, pivot):
                if code in found:
                    raise CorpusError(
                        f"folder {str(path)!r} has several pairs of files for {code}:"
                        f" {found[code][code].name}, {sides[code].name}; keep one"
                    )
                found[code] = {own: sides[own], code: sides[code]}
    if not found:
        raise CorpusError(
            f"folder {str(path)!r} has no pair of files like tatoeba.deu-eng.deu and"
            f" tatoeba.deu-eng.eng with the pivot {pivot!r}; it holds {contents(path)}"
        )
    names = list(found) if languages is None else resolved(languages, list(found), path)
    return [found[code] for code in names]


def is_tatoeba(folder: Path) -> bool:
    """Whether a folder has files named like ``tatoeba.deu-eng.deu``."""
    return any(TATOEBA.fullmatch(file.name.removesuffix(".gz")) for file in folder.iterdir())


def _is(code: str, wanted: str) -> bool:
    try:
        return codes_of.resolve(wanted, [code]) == code
    except CorpusError:
        return False


def _sifted(files: Mapping[str, Path], n_pairs: int | None) -> FilteredRows:
    """Sift files of equal lines, reading twice as far until there are enough pairs."""
    most = None if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        columns = {code: read_lines(file, most) for code, file in files.items()}
        common = _common(files, columns, most)
        part = filter_rows(list(files), _rows(files, columns, common), n_pairs)
        if most is None or len(part.rows) == n_pairs or common < most:
            return part
        most *= 2


def _rows(
    files: Mapping[str, Path], columns: Mapping[str, Sequence[str]], common: int
) -> Iterator[Row]:
    names = [file.name for file in files.values()]
    for i, texts in enumerate(islice(zip(*columns.values(), strict=False), common)):
        yield Row(texts, [f"{name}:{i + 1}" for name in names])


def _common(
    files: Mapping[str, Path], columns: Mapping[str, Sequence[str]], most: int | None
) -> int:
    """How many lines can be paired; blank lines at the end of a file may be there or not."""
    extents = []
    for code, file in files.items():
        lines = columns[code]
        if most is None or len(lines) < most:
            extents.append(extent(lines))
        elif file.stat().st_size <= SMALL:
            extents.append(extent(raw_lines(file)))
        else:
            extents.append((most, 1 << 62))  # read no further: as many as are needed
    needed = max(last for last, _ in extents)
    for file, (_, total) in zip(files.values(), extents, strict=True):
        if total < needed:
            k = next(k for k, (last, _) in enumerate(extents) if last == needed)
            longest, at_least = list(files.values())[k], "at least " * (extents[k][1] == 1 << 62)
            raise CorpusError(
                "files of one corpus must have equally many lines,"
                f" {longest} has {at_least}{needed} and {file} has {total}"
            )
    return min(needed, min(map(len, columns.values())))


def _prefixed(path: Path, pivot: str, languages: Iterable[str] | None) -> dict[str, Path]:
    files: dict[str, Path] = {}
    if path.parent.is_dir():
        for file in sorted(path.parent.iterdir()):
            name = file.name.removesuffix(".gz")
            code = codes_of.of_file(name.removeprefix(f"{path.name}."))
            if name.startswith(f"{path.name}.") and code is not None:
                files[code] = file
    if not files:
        raise CorpusError(
            f"there is neither a folder {str(path)!r} nor are there files {path.name}.<code>"
        )
    own, names = chosen(pivot, languages, list(files), path)
    return {code: files[code] for code in (own, *names)}


def _tatoeba_pairs(folder: Path) -> Iterator[dict[str, Path]]:
    """Both codes and files of every pair of files; a lone file is refused."""
    files: dict[tuple[str, str, str], dict[str, Path]] = {}
    for file in sorted(folder.iterdir()):
        match = TATOEBA.fullmatch(file.name.removesuffix(".gz"))
        if match and match[4] in (match[2], match[3]):
            files.setdefault((match[1], match[2], match[3]), {})[match[4]] = file
    for (stem, first, second), sides in files.items():
        for side in (first, second):
            if side not in sides:
                alone = next(iter(sides.values()))
                raise CorpusError(
                    f"{alone} has no partner {stem}.{first}-{second}.{side} in the same folder"
                )
        yield {codes_of.of_file(side) or side: sides[side] for side in (first, second)}
