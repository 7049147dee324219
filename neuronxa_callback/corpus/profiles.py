"""Character 3-grams of many sentences as arrays: near duplicates and copies, without all pairs.

The cosine of two sentences is that of their 3-gram counts (``surface.grams``). Candidates are
found with bounds that no similar pair can miss, and only candidates are compared exactly.
"""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neuronxa_callback.corpus.surface import grams

BINS = 512
"""Bins of hashed 3-grams: the dot product of hashed counts is never less than the exact one."""
CHARACTER_BITS = 14
"""Up to 16,384 different characters are told apart; the exact comparison tells apart all."""
SUFFIX = 0.68
"""Squared norm of the frequent 3-grams of a sentence that are left out of the index."""
COLUMN_BITS = 17
"""Rare 3-grams are indexed by a hash of so many bits."""
CHUNK = 2500
"""Rows that are compared with all others at a time."""
Array = NDArray[Any]


class Profile:
    """The 3-gram counts of sentences, made once and used for all comparisons.

    Args:
        texts: The sentences.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        padded = [f" {' '.join(text.casefold().split())} " for text in texts]
        self.lengths = np.array([len(text) for text in padded], dtype=np.int64)
        joined = "".join(padded).encode("utf-32-le", "surrogatepass")
        self.letters = np.frombuffer(joined, dtype=np.uint32)

    @cached_property
    def signatures(self) -> Array:
        """A number [texts] that is equal for texts with the same letters and digits."""
        used, ids = self._alphabet
        values = _mix(used) * np.array([chr(letter).isalnum() for letter in used], dtype=np.uint64)
        sums = np.cumsum(np.concatenate((np.zeros(1, np.uint64), values[ids])))
        ends = np.cumsum(self.lengths)
        return np.asarray(sums[ends] - sums[ends - self.lengths])

    @cached_property
    def bins(self) -> Array:
        """Counts of hashed 3-grams [texts, BINS]."""
        rows, first = self._positions
        mixed = _mix(self.letters)
        code = mixed[first] + mixed[first + 1] * np.uint64(3) + mixed[first + 2] * np.uint64(5)
        column = _hash(code, BINS.bit_length() - 1)
        counts = np.bincount(rows * BINS + column, minlength=len(self.texts) * BINS)
        return counts.reshape(-1, BINS).astype(np.float32)

    @cached_property
    def counts(self) -> tuple[Array, Array, Array]:
        """Row, 3-gram and count of each distinct 3-gram of a row, rare ones first in their row."""
        rows, first = self._positions
        used, ids = self._alphabet
        bits = min(CHARACTER_BITS, max(1, int(used.size - 1).bit_length()))
        ids = ids & ((1 << bits) - 1)
        code = (ids[first] << 2 * bits) | (ids[first + 1] << bits) | ids[first + 2]
        place = _hash(code, 18)
        frequency = np.bincount(place, minlength=1 << 18)[place]
        bucket = np.frexp(frequency)[1].astype(np.int64)
        keys = np.sort((rows << (5 + 3 * bits)) | (bucket << 3 * bits) | code)
        starts = np.flatnonzero(np.diff(keys, prepend=-1))
        distinct = keys[starts]
        counts = np.diff(starts, append=keys.size)
        return distinct >> (5 + 3 * bits), distinct & ((1 << 3 * bits) - 1), counts

    @cached_property
    def norms(self) -> Array:
        """Euclidean norm of the counts of each text."""
        rows, _, counts = self.counts
        squares = (counts * counts).astype(np.float64)
        return np.sqrt(np.bincount(rows, weights=squares, minlength=len(self.texts)))

    @cached_property
    def _alphabet(self) -> tuple[Array, Array]:
        """The distinct characters, and the index of each character of the text among them."""
        table = np.zeros(int(self.letters.max(initial=0)) + 1, dtype=np.int64)
        table[self.letters] = 1
        used = np.flatnonzero(table)
        table[used] = np.arange(used.size)
        return used.astype(np.uint64), table[self.letters]

    @cached_property
    def _positions(self) -> tuple[Array, Array]:
        """Row and place of the first character of each 3-gram."""
        rows = np.repeat(np.arange(len(self.texts)), self.lengths)
        ends = np.cumsum(self.lengths)
        is_first = np.arange(rows.size) < ends[rows] - 2
        return rows[is_first], np.flatnonzero(is_first)


def similar_rows(first: Profile, second: Profile, least: float) -> list[int]:
    """The rows whose two sentences have at least this cosine."""
    bounds = np.einsum("ij,ij->i", first.bins, second.bins)
    rows = np.flatnonzero(bounds >= (least - 1e-4) * first.norms * second.norms)
    return [int(i) for i in rows if cosine(first.texts[i], second.texts[i]) >= least]


def similar_pairs(profile: Profile, least: float) -> list[tuple[int, int, float]]:
    """All pairs of rows with at least this cosine: earlier row, later row, cosine.

    Sentences are compared by their rare 3-grams, with ``1 - SUFFIX`` of the squared norm. What
    the rest can add to the dot product is at most the greater norm of the two rests.
    """
    rows, codes, counts = profile.counts
    norms = profile.norms
    squares = (counts / norms[rows]) ** 2
    until = np.cumsum(squares)
    ends = until[np.searchsorted(rows, np.arange(len(norms)), side="right") - 1]
    rest = ends[rows] - until
    is_rare = rest + squares >= SUFFIX
    # 3-grams that share a column only add to a bound.
    columns = _hash(codes[is_rare], COLUMN_BITS).astype(np.int32)
    starts = np.searchsorted(rows[is_rare], np.arange(len(norms) + 1)).astype(np.int32)
    values = np.sqrt(squares[is_rare])
    index = sparse.csr_array((values, columns, starts), shape=(len(norms), 1 << COLUMN_BITS))
    suffix = np.zeros(len(norms))
    suffix[rows[is_rare]] = np.sqrt(np.maximum(rest[is_rare], 0))
    found = []
    transposed = index.T.tocsr()
    for start in range(0, len(norms), CHUNK):
        part = sparse.coo_array(index[start : start + CHUNK] @ transposed)
        i, j = part.row + start, part.col
        keep = (i < j) & (part.data >= least - 1e-9 - np.maximum(suffix[i], suffix[j]))
        for one, other in zip(i[keep].tolist(), j[keep].tolist(), strict=True):
            value = cosine(profile.texts[one], profile.texts[other])
            if value >= least:
                found.append((one, other, value))
    return sorted(found, key=lambda pair: (pair[1], pair[0]))


def cosine(first: str, second: str) -> float:
    """The cosine of the 3-gram counts of two sentences."""
    one, other = grams(first), grams(second)
    dot = sum(count * other[gram] for gram, count in one.items() if gram in other)
    norms = [sum(count * count for count in counts.values()) for counts in (one, other)]
    return dot / math.sqrt(norms[0] * norms[1]) if norms[0] and norms[1] else 0.0


def _hash(values: Array, bits: int) -> Array:
    return (_mix(values.astype(np.uint64)) >> np.uint64(64 - bits)).astype(np.int64)


def _mix(values: Array) -> Array:
    """Scrambled 64-bit numbers; the constants are those of splitmix64."""
    mixed: Array = values.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(29)
    return mixed * np.uint64(0xBF58476D1CE4E5B9)
