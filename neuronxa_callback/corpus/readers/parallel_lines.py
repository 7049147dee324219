"""Files with parallel lines: one row per line, where all files agree on the lines.

With ``n_pairs`` a file is read only as far as needed. Files of up to ``FULL_COUNT_BYTES`` are
still counted to their end and compared, since one missing line shifts every pair behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from neuronxa_callback.corpus.readers.formats import refuse_other_formats
from neuronxa_callback.corpus.readers.lines import LineCount, count_lines, raw_lines, read_lines
from neuronxa_callback.corpus.rows import MAX_EXTRA, FilteredRows, Row, filter_rows
from neuronxa_callback.errors import CorpusError

FULL_COUNT_BYTES = 8 << 20
UNCOUNTED = 1 << 62
"""The line count of a file that was not read to its end."""


def read_group(files: Mapping[str, Path], n_pairs: int | None) -> FilteredRows:
    """Filtered rows of files with parallel lines; doubles the limit until there are enough.

    Raises:
        CorpusError: If a file is no text, or the files do not agree on the lines.
    """
    for file in files.values():
        refuse_other_formats(file)
    limit = None if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        columns = {code: read_lines(file, limit) for code, file in files.items()}
        counts = [_count(file, columns[code], limit) for code, file in files.items()]
        common = min(_common_length(list(files.values()), counts), *map(len, columns.values()))
        _refuse_shifted_blanks(list(files.values()), counts)
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


def _count(file: Path, lines: Sequence[str], limit: int | None) -> LineCount:
    """The lines of a file of which ``limit`` have been read; a large file is not read on."""
    if limit is None or len(lines) < limit:
        return count_lines(lines)
    if file.stat().st_size <= FULL_COUNT_BYTES:
        return count_lines(raw_lines(file))
    return LineCount(limit, UNCOUNTED)


def _common_length(files: Sequence[Path], counts: Sequence[LineCount]) -> int:
    """The number of parallel lines; blank lines at the end of a file are optional.

    Raises:
        CorpusError: If a file has fewer lines than another one needs.
    """
    needed = max(count.last for count in counts)
    for file, count in zip(files, counts, strict=True):
        if count.total < needed:
            k = next(k for k, other in enumerate(counts) if other.last == needed)
            at_least = "at least " * (counts[k].total == UNCOUNTED)
            raise CorpusError(
                "files of one corpus must have the same number of lines, but"
                f" {files[k]} has {at_least}{needed} and {file} has {count.total}"
            )
    return needed


def _refuse_shifted_blanks(files: Sequence[Path], counts: Sequence[LineCount]) -> None:
    """Refuse files that have as many sentences as the pivot's, but blank lines elsewhere.

    A blank line that was put into one file moves all its sentences behind it by one line.

    Raises:
        CorpusError: It names the first line at which a file and the pivot's differ.
    """
    pivot = counts[0]
    for file, count in zip(files[1:], counts[1:], strict=True):
        same = count.last - len(count.blanks) == pivot.last - len(pivot.blanks)
        if UNCOUNTED in (count.total, pivot.total) or not same or count.blanks == pivot.blanks:
            continue
        first = min({*count.blanks} ^ {*pivot.blanks})
        blank, other = (file, files[0]) if first in count.blanks else (files[0], file)
        raise CorpusError(
            f"lines of one corpus must be parallel, but {blank}:{first} is blank and"
            f" {other.name}:{first} is not, though both have"
            f" {pivot.last - len(pivot.blanks)} sentences: lines are shifted from there on; remove"
            " the blank line, or put the same blank lines into both"
        )
