"""Rows of parallel sentences: drop unusable ones, and merge the rest into a reader's result.

Standard library only.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuronxa_callback.corpus.text import (
    comparison_key,
    find_fault,
    normalize_sentence,
    shorten,
    shortlist,
)
from neuronxa_callback.errors import CorpusError

Pair = tuple[str, str]
"""A pivot sentence and its translation."""

PIVOT = "eng_Latn"
"""Default pivot of every reader."""
MAX_EXTRA = 64
"""How many lines a reader reads at first beyond ``n_pairs``, since some may be unusable."""
MARKER_ROWS, MARKER_SHARE = 5, 0.02
"""A cell is a marker if it is beside so many different sentences, and in this share of rows."""
EQUAL_ROWS, MAX_EQUAL = 5, 0.5
"""From so many rows on, at most this share of them may be equal in both languages."""

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
    notes: tuple[str, ...] = ()
    order: str = ""


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
    blamed: tuple[str, ...] = ()
    """The language that each dropped row was dropped for, in any order."""
    order: str = ""
    """The order in which the rows were taken, in words."""

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
    seen: list[dict[str, int]] = [{} for _ in codes]
    beside: dict[tuple[int, str], set[str]] = {}
    kept: dict[int, Row] = {}
    markers: set[int] = set()
    dropped: dict[int, tuple[str, str]] = {}
    for number, row in enumerate(rows):
        texts = [None if text is None else normalize_sentence(text) for text in row.texts]
        keys = [comparison_key(text or "") for text in texts]
        fault = _row_fault(texts, keys, row.places, seen, kept)
        if fault is None:
            for known, key in zip(seen, keys, strict=True):
                known[key] = number
            kept[number] = Row(texts, row.places)
        else:
            k, message = fault
            dropped[number] = (codes[k], message)
            first = seen[k].get(keys[k])
            if first is not None and first not in markers:
                # Beside other sentences each time, a repeated cell is no translation of them.
                others = beside.setdefault((k, keys[k]), {str(kept[first].texts[-(k == 0)])})
                others.add(str(texts[-(k == 0)]))
                if len(others) >= max(MARKER_ROWS, MARKER_SHARE * (number + 1)):
                    markers.add(first)
                    dropped[first] = (codes[k], _marker_message(kept[first], k))
        if len(kept) - len(markers) == n_pairs:
            break
    reasons = [dropped[number] for number in sorted(dropped)]
    return FilteredRows(
        tuple(codes),
        tuple(row for number, row in kept.items() if number not in markers),
        tuple(message for _, message in reasons),
        tuple(code for code, _ in reasons),
    )


def _marker_message(row: Row, k: int) -> str:
    text = shorten(str(row.texts[k]))
    return f"{row.places[k]} is a marker, not a sentence: {text!r} is in many rows"


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
    blamed: Counter[str] = Counter()
    orders: dict[str, str] = {}
    total = 0
    for part in parts:
        dropped += part.dropped
        blamed.update(part.blamed)
        total += len(part.rows) + len(part.dropped)
        _require_enough(part, name, n_pairs)
        _refuse_copies(part, name)
        pivot_places = part.places(0)
        for k, code in enumerate(part.codes[1:], start=1):
            if code in pairs:
                raise CorpusError(
                    f"{name} has {code} twice: {origins[code][0]}, {part.places(k)[0]}"
                )
            pairs[code], origins[code] = part.pairs(k), part.places(k)
            origins[f"{code}/{pivot}"] = pivot_places
            orders[code] = part.order
    notes = []
    if dropped:
        by_language = ", ".join(f"{code} {count}" for code, count in blamed.most_common())
        lost = f"dropped {len(dropped)} of the {total} pairs read" + f" ({by_language})" * bool(
            blamed
        )
        notes.append(f"{lost}; first: {dropped[0]}")
        log.warning("%s: %s", name, notes[0])
    order = _order_in_words(orders)
    return ParallelRows(pivot, pairs, name, origins, tuple(dropped), tuple(notes), order)


def _order_in_words(orders: Mapping[str, str]) -> str:
    """The order of all languages, once where it is the same."""
    different = dict.fromkeys(orders.values())
    if len(different) < 2:
        return next(iter(different), "")
    return shortlist([f"{code}: {order}" for code, order in orders.items()], 3)


def log_notes(rows: ParallelRows, level: int = logging.INFO) -> ParallelRows:
    """The same rows, after one log line with what was taken and what was left out."""
    log.log(level, "%s: %s", rows.name, "; ".join(rows.notes[:2]))
    return rows


def _row_fault(
    texts: Sequence[str | None],
    keys: Sequence[str],
    places: Sequence[str],
    seen: Sequence[Mapping[str, int]],
    kept: Mapping[int, Row],
) -> tuple[int, str] | None:
    """The column for which a row is dropped, and why; None for a usable row."""
    for k, (text, key, place, known) in enumerate(zip(texts, keys, places, seen, strict=True)):
        if text is None:
            return k, f"{place} is missing"
        fault = find_fault(text)
        if fault:
            return k, f"{place} {fault}"
        if key in known:
            return k, f"{place} repeats {kept[known[key]].places[k]}: {shorten(text)!r}"
    return None


def _refuse_copies(part: FilteredRows, name: str) -> None:
    """Refuse a language most of whose sentences are the pivot's.

    Raises:
        CorpusError: It names the language and the first equal lines.
    """
    if len(part.rows) < EQUAL_ROWS:
        return
    for k, code in enumerate(part.codes[1:], start=1):
        equal = [row for row in part.rows if row.texts[k] == row.texts[0]]
        if len(equal) > MAX_EQUAL * len(part.rows):
            raise CorpusError(
                f"a language must be a translation of the pivot, but {len(equal)} of"
                f" {len(part.rows)} sentences of {code} in {name} are equal to it; first:"
                f" {equal[0].places[k]} {shorten(str(equal[0].texts[k]))!r}"
            )


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
