"""Which lines of a file are taken first: spread over the file, or as in the file.

Neighbouring lines often come from one document, so the first n lines are not n random ones. A
reader therefore takes lines with a fixed stride, which depends on the number of lines of the pivot
only, and where documents are known, one line of each document before a second one of any.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd

from neuronxa_callback.corpus.rows import MAX_EXTRA, FilteredRows, Row, filter_rows
from neuronxa_callback.errors import CorpusError, unknown

SPREAD, FILE = "spread", "file"
ORDERS = (SPREAD, FILE)
GOLDEN = (5**0.5 - 1) / 2
"""A stride of this share of the file spreads the first n lines evenly, whatever n is."""
NEAR = 30
"""How far a stride may be from the golden section."""
UNKNOWN_COUNT = 1 << 62
"""The number of lines of a file that is not counted."""
IN_FILE = "file order"
STREAM = "file order, as a stream of unknown length cannot be spread"
"""The order of rows that can be read once only."""


@dataclass(frozen=True)
class Documents:
    """The document of each line, and the place from which it is known."""

    ids: Sequence[Hashable]
    source: str


@dataclass(frozen=True)
class Candidates:
    """The lines 0 to ``count`` - 1 of a file, in the order in which a reader takes them.

    >>> Candidates(10).first(4)
    [0, 7, 4, 1]
    >>> Candidates(6, documents=Documents("aaabbc", "ids.tsv")).first(4)
    [0, 5, 4, 3]
    >>> str(Candidates(997))
    'spread over 997 lines, line 1 + 616 k modulo 997'
    """

    count: int
    order: str = SPREAD
    documents: Documents | None = None
    unit: str = "line"

    def __post_init__(self) -> None:
        require_order(self.order)

    def __str__(self) -> str:
        if self.order == FILE:
            return IN_FILE
        rule = f"spread over {self.count} {self.unit}s"
        if self.count > 1:
            rule += f", {self.unit} 1 + {self.stride} k modulo {self.count}"
        if self.documents is None:
            return rule
        number = len(dict.fromkeys(self.documents.ids))
        return f"{rule}, one of each of {number} documents ({self.documents.source}) first"

    @property
    def stride(self) -> int:
        """A number near the golden section of ``count``, without a common divisor.

        Of those within ``NEAR``, the one whose continued fraction has the smallest largest term:
        its multiples keep the most even distances.
        """
        if self.order == FILE or self.count < 2:
            return 1
        golden = round(self.count * GOLDEN)
        strides = range(max(1, golden - NEAR), min(self.count - 1, golden + NEAR) + 1)
        return min(
            (k for k in strides if gcd(k, self.count) == 1),
            key=lambda k: (max(_continued_fraction(self.count, k)), abs(k - golden)),
        )

    def first(self, limit: int | None) -> list[int]:
        """The first ``limit`` lines; None for all."""
        wanted = self.count if limit is None else max(0, min(limit, self.count))
        by_stride = self.count if self.documents is not None else wanted
        stride = self.stride
        order = [k * stride % self.count for k in range(by_stride)]
        if self.documents is not None:
            order = _by_document(order, self.documents.ids)
        return order[:wanted]


def _continued_fraction(numerator: int, denominator: int) -> Iterator[int]:
    while denominator:
        yield numerator // denominator
        numerator, denominator = denominator, numerator % denominator


def require_order(order: str) -> None:
    """Refuse an unknown order.

    Raises:
        CorpusError: It names the known ones.
    """
    if order not in ORDERS:
        raise CorpusError(unknown("order", order, ORDERS))


def _by_document(order: Sequence[int], ids: Sequence[Hashable]) -> list[int]:
    """The same lines: the first of each document, then the second of each, and so on."""
    seen: Counter[Hashable] = Counter()
    rounds: dict[int, int] = {}
    for i in order:
        rounds[i] = seen[ids[i]]
        seen[ids[i]] += 1
    return sorted(order, key=rounds.__getitem__)


def filter_candidates(
    codes: Sequence[str],
    candidates: Candidates,
    pick: Callable[[Sequence[int]], Mapping[int, Row]],
    n_pairs: int | None,
) -> FilteredRows:
    """The first ``n_pairs`` usable rows in the order of the candidates.

    Args:
        codes: The languages, the pivot first.
        candidates: The order.
        pick: Reads rows: the wanted ones that exist; further ones come last.
        n_pairs: None for all; else some more are picked, and twice as many until they suffice.
    """
    limit = None if n_pairs is None else n_pairs + MAX_EXTRA
    while True:
        wanted = candidates.first(limit)
        found = dict(pick(wanted))
        rows = [found.pop(i) for i in wanted if i in found]
        part = filter_rows(codes, [*rows, *found.values()], n_pairs)
        if limit is None or len(part.rows) == n_pairs or len(rows) < limit:
            return replace(part, order=str(candidates))
        limit *= 2
