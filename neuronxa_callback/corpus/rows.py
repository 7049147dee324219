"""From rows of parallel sentences to a corpus: what cannot be measured is left out, by name."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from neuronxa_callback.corpus.parallel import Pair, ParallelCorpus
from neuronxa_callback.corpus.text import clean, fault_of, same, shortened
from neuronxa_callback.errors import CorpusError

MAX_EXTRA = 64
"""How many more lines than pairs are read at first, for those that will be dropped."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One sentence in several languages; None where a language has none."""

    texts: Sequence[str | None]
    places: Sequence[str]
    """Per language where it stands, ``file:line``."""


@dataclass(frozen=True)
class FilteredRows:
    """The rows that can be measured, and one sentence for each that cannot."""

    codes: tuple[str, ...]
    """The languages of a row, the pivot first."""
    rows: tuple[Row, ...]
    dropped: tuple[str, ...]

    def pairs(self, k: int) -> tuple[Pair, ...]:
        """The pivot's sentences with those of language k."""
        return tuple((str(row.texts[0]), str(row.texts[k])) for row in self.rows)

    def places(self, k: int) -> tuple[str, ...]:
        """Where the sentences of language k stand."""
        return tuple(row.places[k] for row in self.rows)


def filter_rows(
    codes: Sequence[str], rows: Iterable[Row], n_pairs: int | None = None
) -> FilteredRows:
    """The first ``n_pairs`` rows in which every language has a sentence it did not have before.

    No row beyond those is asked for. A row that is dropped is dropped in all languages, so that
    they keep the same pivot sentences.
    """
    seen: list[dict[str, str]] = [{} for _ in codes]
    kept: list[Row] = []
    dropped: list[str] = []
    if n_pairs is not None and n_pairs < 2:
        raise CorpusError(f"n_pairs must be at least 2, got {n_pairs}")
    for row in rows:
        texts = [None if text is None else clean(text) for text in row.texts]
        keys = [same(text or "") for text in texts]
        fault = _fault(texts, keys, row.places, seen)
        if fault:
            dropped.append(fault)
            continue
        for known, key, place in zip(seen, keys, row.places, strict=True):
            known[key] = place
        kept.append(Row(texts, row.places))
        if len(kept) == n_pairs:
            break
    return FilteredRows(tuple(codes), tuple(kept), tuple(dropped))


def corpus_of(
    parts: Iterable[FilteredRows], pivot: str, name: str, n_pairs: int | None = None
) -> ParallelCorpus:
    """One corpus of all parts; a single warning where pairs were dropped.

    Raises:
        CorpusError: If a language has fewer than ``n_pairs`` pairs left, or two parts have it.
    """
    pairs: dict[str, tuple[Pair, ...]] = {}
    origins: dict[str, tuple[str, ...]] = {}
    dropped: list[str] = []
    total = 0
    for part in parts:
        dropped += part.dropped
        total += len(part.rows) + len(part.dropped)
        _enough(part, name, n_pairs)
        own = part.places(0)
        for k, code in enumerate(part.codes[1:], start=1):
            if code in pairs:
                raise CorpusError(
                    f"{name} has {code} twice: {origins[code][0]}, {part.places(k)[0]}"
                )
            pairs[code], origins[code] = part.pairs(k), part.places(k)
            origins[f"{code}/{pivot}"] = own
    corpus = ParallelCorpus(pivot, pairs, name, origins, tuple(dropped))
    if dropped:
        log.warning(
            "%s: %d of the %d pairs read were dropped; the first: %s",
            name,
            len(dropped),
            total,
            dropped[0],
        )
    return corpus


def _fault(
    texts: Sequence[str | None],
    keys: Sequence[str],
    places: Sequence[str],
    seen: Sequence[Mapping[str, str]],
) -> str | None:
    for text, key, place, known in zip(texts, keys, places, seen, strict=True):
        if text is None:
            return f"{place} is missing"
        fault = fault_of(text)
        if fault:
            return f"{place} {fault}"
        if key in known:
            return f"{place} repeats {known[key]}: {shortened(text)!r}"
    return None


def _enough(part: FilteredRows, name: str, n_pairs: int | None) -> None:
    least = 2 if n_pairs is None else n_pairs
    if len(part.rows) < least:
        which = ", ".join(part.codes[1:4]) + (", …" if len(part.codes) > 4 else "")
        smaller = f"set n_pairs={len(part.rows)}" if len(part.rows) > 1 else "add pairs"
        first = f"; the first dropped: {part.dropped[0]}" if part.dropped else ""
        raise CorpusError(
            f"every language needs {least} usable pairs, {name} has {len(part.rows)} of"
            f" {len(part.rows) + len(part.dropped)} for {which}; {smaller} or leave"
            f" the language out{first}"
        )
