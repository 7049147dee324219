"""Files with parallel lines: one row per line, where all files agree on the lines.

Spread over the file, all files are read to their end, one line at a time, and the wanted lines are
kept. In file order with ``n_pairs``, a file is read only as far as needed; files of up to
``FULL_COUNT_BYTES`` are still counted to their end and compared, since one missing line shifts
every pair behind it.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from neuronxa_callback.corpus.readers.documents import documents_beside
from neuronxa_callback.corpus.readers.formats import refuse_other_formats
from neuronxa_callback.corpus.readers.lines import (
    LineCount,
    count_lines,
    decode_line,
    raw_lines,
)
from neuronxa_callback.corpus.readers.order import (
    FILE,
    SPREAD,
    UNKNOWN_COUNT,
    Candidates,
    filter_candidates,
)
from neuronxa_callback.corpus.rows import FilteredRows, Row
from neuronxa_callback.errors import CorpusError

FULL_COUNT_BYTES = 8 << 20
UNCOUNTED = 1 << 62
"""The line count of a file that was not read to its end."""


def read_group(files: Mapping[str, Path], n_pairs: int | None, order: str = SPREAD) -> FilteredRows:
    """Filtered rows of files with parallel lines; the first file is the pivot's.

    Args:
        files: language -> its file, the pivot first.
        n_pairs: None for all.
        order: ``"spread"`` or ``"file"``.

    Raises:
        CorpusError: If a file is no text, or the files do not agree on the lines.
    """
    for file in files.values():
        refuse_other_formats(file)
    paths = list(files.values())
    in_file_order = order == FILE
    if in_file_order and n_pairs is not None:
        candidates = Candidates(UNKNOWN_COUNT, order)
    else:
        count = count_lines(raw_lines(paths[0])).last
        documents = None if in_file_order else documents_beside(paths[0].parent, count)
        candidates = Candidates(count, order, documents)

    def pick(wanted: Sequence[int]) -> dict[int, Row]:
        keep = frozenset(wanted)
        columns, counts = zip(
            *(_pick_lines(file, keep, candidates.count) for file in paths), strict=True
        )
        common = _common_length(paths, counts)
        _refuse_shifted_blanks(paths, counts)
        lines = sorted(i for i in columns[0] if i < common)
        names = [file.name for file in paths]
        return {
            i: Row([column[i] for column in columns], [f"{name}:{i + 1}" for name in names])
            for i in lines
        }

    return filter_candidates(list(files), candidates, pick, n_pairs)


def _pick_lines(
    file: Path, wanted: Collection[int], pivot_count: int
) -> tuple[dict[int, str], LineCount]:
    """The wanted lines, and those behind the pivot's last; the number of all lines, where counted.

    A large file in file order is read as far as needed, and not counted.
    """
    picked: dict[int, str] = {}

    def lines() -> Iterator[bytes]:
        for i, line in enumerate(raw_lines(file)):
            if i in wanted or i >= pivot_count:
                picked[i] = decode_line(file, i, line)
            yield line

    limit = len(wanted)
    if pivot_count < UNKNOWN_COUNT or file.stat().st_size <= FULL_COUNT_BYTES:
        return picked, count_lines(lines())
    count = count_lines(islice(lines(), limit))
    return picked, count if count.total < limit else LineCount(limit, UNCOUNTED)


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
