"""Rows of parallel sentences: drop unusable ones, and merge the rest into a reader's result.

Standard library only.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuronxa_callback.corpus.text import comparison_key, find_fault, normalize_sentence, shorten
from neuronxa_callback.errors import CorpusError

Pair = tuple[str, str]
"""A pivot sentence and its translation."""

PIVOT = "eng_Latn"
"""Default pivot of every reader."""
MAX_EXTRA = 64
"""How many lines a reader reads at first beyond ``n_pairs``, since some may be unusable."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ParallelRows:
    """The result of a reader: usable pairs per language, and a reason for each dropped pair.

    ``ParallelCorpus`` has the same fields and documents them.
    """

    pivot: str
    pairs: Mapping[str, tuple[Pair, ...]]
    name: str
    origins: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """One sentence in several languages, the pivot first; None where it is missing."""

    texts: Sequence[str | None]
    places: Sequence[str]
    """``file:line`` per language."""


@dataclass(frozen=True)
class FilteredRows:
    """Usable rows, and one message per dropped row."""

    codes: tuple[str, ...]
    """The languages of a row, the pivot first."""
    rows: tuple[Row, ...]
    dropped: tuple[str, ...]

    def pairs(self, k: int) -> tuple[Pair, ...]:
        """The pivot's sentences with those of language k."""
        return tuple((str(row.texts[0]), str(row.texts[k])) for row in self.rows)

    def places(self, k: int) -> tuple[str, ...]:
        """``file:line`` of each sentence of language k."""
        return tuple(row.places[k] for row in self.rows)


def filter_rows(
    codes: Sequence[str], rows: Iterable[Row], n_pairs: int | None = None
) -> FilteredRows:
    """The first ``n_pairs`` usable rows; reads no further than the last of them.

    A row is usable if every language has a sentence that it did not have in an earlier row. A
    dropped row is dropped in all languages, so that they keep the same pivot sentences.

    Raises:
        CorpusError: If ``n_pairs`` is less than 2.
    """
    if n_pairs is not None and n_pairs < 2:
        raise CorpusError(f"n_pairs must be at least 2, got {n_pairs}")
    seen: list[dict[str, str]] = [{} for _ in codes]
    kept: list[Row] = []
    dropped: list[str] = []
    for row in rows:
        texts = [None if text is None else normalize_sentence(text) for text in row.texts]
        keys = [comparison_key(text or "") for text in texts]
        fault = _row_fault(texts, keys, row.places, seen)
        if fault:
            dropped.append(fault)
            continue
        for known, key, place in zip(seen, keys, row.places, strict=True):
            known[key] = place
        kept.append(Row(texts, row.places))
        if len(kept) == n_pairs:
            break
    return FilteredRows(tuple(codes), tuple(kept), tuple(dropped))


def merge_rows(
    parts: Iterable[FilteredRows], pivot: str, name: str, n_pairs: int | None = None
) -> ParallelRows:
    """All parts as one result; logs a single warning if rows were dropped.

    Raises:
        CorpusError: If a language has fewer than ``n_pairs`` pairs, or is in two parts.
    """
    pairs: dict[str, tuple[Pair, ...]] = {}
    origins: dict[str, tuple[str, ...]] = {}
    dropped: list[str] = []
    total = 0
    for part in parts:
        dropped += part.dropped
        total += len(part.rows) + len(part.dropped)
        _require_enough(part, name, n_pairs)
        pivot_places = part.places(0)
        for k, code in enumerate(part.codes[1:], start=1):
            if code in pairs:
                raise CorpusError(
                    f"{name} has {code} twice: {origins[code][0]}, {part.places(k)[0]}"
                )
            pairs[code], origins[code] = part.pairs(k), part.places(k)
            origins[f"{code}/{pivot}"] = pivot_places
    if dropped:
        log.warning(
            "%s: dropped %d of the %d pairs read; first: %s", name, len(dropped), total, dropped[0]
        )
    return ParallelRows(pivot, pairs, name, origins, tuple(dropped))


def _row_fault(
    texts: Sequence[str | None],
    keys: Sequence[str],
    places: Sequence[str],
    seen: Sequence[Mapping[str, str]],
) -> str | None:
    for text, key, place, known in zip(texts, keys, places, seen, strict=True):
        if text is None:
            return f"{place} is missing"
        fault = find_fault(text)
        if fault:
            return f"{place} {fault}"
        if key in known:
            return f"{place} repeats {known[key]}: {shorten(text)!r}"
    return None


def _require_enough(part: FilteredRows, name: str, n_pairs: int | None) -> None:
    needed = 2 if n_pairs is None else n_pairs
    if len(part.rows) < needed:
        codes = ", ".join(part.codes[1:4]) + (", …" if len(part.codes) > 4 else "")
        smaller = f"set n_pairs={len(part.rows)}" if len(part.rows) > 1 else "add pairs"
        first = f"; first dropped: {part.dropped[0]}" if part.dropped else ""
        raise CorpusError(
            f"every language needs {needed} usable pairs, {name} has {len(part.rows)} of"
            f" {len(part.rows) + len(part.dropped)} for {codes}; {smaller} or leave"
            f" the language out{first}"
        )
