"""The corpus: pairs of sentences per language, validated when it is constructed.

Standard library only.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from neuronxa_callback.corpus.constructors import CorpusConstructors
from neuronxa_callback.corpus.rows import PIVOT, Pair, ParallelRows
from neuronxa_callback.corpus.text import comparison_key, find_fault, normalize_sentence, shorten
from neuronxa_callback.errors import CorpusError
from neuronxa_callback.option_checks import whole_number
from neuronxa_callback.report_schema import GROUP, RESERVED

LONGEST_NAME = 60
"""The most letters of the code or name of a language."""
LINE = re.compile(r".*?(?::| row | record )(\d+)(?: \(.*\))?", re.DOTALL)
"""The line in ``file:line``, or the row in ``table row 3 (column)`` with any name of a column."""


@dataclass(frozen=True)
class ParallelCorpus(CorpusConstructors):
    """Sentences of a pivot language and their translations, in order.

    Sentences are kept in Unicode NFC without surrounding white space. Two sentences that differ
    in white space only count as equal.

    >>> corpus = ParallelCorpus(
    ...     pivot="eng_Latn",
    ...     pairs={"deu_Latn": (("Good morning.", "Guten Morgen."), ("Thanks.", "Danke."))},
    ... )
    >>> corpus
    ParallelCorpus('custom': 2 pairs, eng_Latn with 1 language: deu_Latn)
    >>> corpus.pairs["deu_Latn"][1]
    ('Thanks.', 'Danke.')

    Raises:
        CorpusError: On construction, if there is no language; if a language is the pivot, has a
            reserved name, fewer than 2 pairs, a blank sentence or the same sentence twice.
    """

    pivot: str = PIVOT
    pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    """language -> its pairs: (pivot sentence, translation)."""
    name: str = "custom"
    """The name in reports and messages, for instance ``builtin:dev@1``."""
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)
    """language -> ``file:line`` of each sentence, where known; the pivot sentences of a language
    have the key ``deu_Latn/eng_Latn``."""
    dropped: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """One message for each pair that a reader dropped: file, line and reason."""
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """What a reader took and what it left out, as sentences: columns, files, dropped pairs."""
    order: str = field(default="", compare=False, repr=False)
    """The order in which a reader took the lines, in words; empty for pairs that were given."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", _normalize_pairs(self.pairs))
        object.__setattr__(self, "dropped", tuple(self.dropped))
        object.__setattr__(self, "origins", {k: tuple(v) for k, v in self.origins.items()})
        _check_names(self.pivot, self.languages)
        checked: list[str] = []
        for language in self.languages:
            pivots = [pivot for pivot, _ in self.pairs[language]]
            self._check_sentences(language, (1,) if pivots == checked else (0, 1))
            checked = pivots

    def __hash__(self) -> int:
        return int(self.digest[:15], 16)

    def __repr__(self) -> str:
        count = len(self.languages)
        languages = ", ".join(self.languages[:5]) + (", …" if count > 5 else "")
        return (
            f"ParallelCorpus({self.name!r}: {self.n_pairs} pairs, {self.pivot} with"
            f" {count} language{'s' * (count > 1)}: {languages})"
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are compared with the pivot, in order."""
        return tuple(self.pairs)

    @property
    def n_pairs(self) -> int:
        """The number of pairs that every language has: the smallest over the languages."""
        return min(map(len, self.pairs.values()))

    @cached_property
    def shared_pivot(self) -> bool:
        """Whether all languages have the same pivot sentences, pair by pair."""
        columns = ([pivot for pivot, _ in pairs] for pairs in self.pairs.values())
        first = next(columns)
        return all(column == first for column in columns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pivot, languages and sentences; independent of the order of languages."""
        digest = hashlib.sha256(json.dumps(self.pivot).encode())
        for language in sorted(self.pairs):
            digest.update(json.dumps([language, self.pairs[language]]).encode())
        return digest.hexdigest()

    def where(self, language: str, i: int, pivot: bool = False) -> str:
        """The origin of pair i (from 0) of a language: ``file:line``, or ``deu_Latn pair 3``.

        With ``pivot``, the origin of its pivot sentence.
        """
        known = self.origins.get(f"{language}/{self.pivot}" if pivot else language, ())
        if i < len(known):
            return known[i]
        if pivot:
            return f"{self.pivot} side of {self.where(language, i)}"
        return f"{language} pair {i + 1}"

    def lines(self, language: str) -> list[int]:
        """The line of each pair in the pivot's file; empty if they are not all known."""
        places = self.origins.get(f"{language}/{self.pivot}", ())
        # The name of a table may have numbers and brackets itself.
        matches = [LINE.fullmatch(place.removeprefix(self.name)) for place in places]
        numbers = [int(match[1]) for match in matches if match]
        return numbers if len(numbers) == len(self.pairs[language]) else []

    def in_file_order(self) -> Self:
        """The same pairs, those of each language in the order of the pivot's lines, where known."""
        pairs, origins = dict(self.pairs), dict(self.origins)
        for language in self.languages:
            lines = self.lines(language)
            order = sorted(range(len(lines)), key=lines.__getitem__)
            if order:
                pairs[language] = tuple(pairs[language][i] for i in order)
            for key in (language, f"{language}/{self.pivot}") if order else ():
                origins[key] = tuple(origins[key][i] for i in order)
        return replace(self, pairs=pairs, origins=origins)

    def select(self, languages: Iterable[str] | None = None, n_pairs: int | None = None) -> Self:
        """Some of the languages, in the given order, and the first ``n_pairs`` of each.

        >>> ParallelCorpus.builtin().select(["German", "sw"], n_pairs=10)
        ParallelCorpus('builtin:dev@1': 10 pairs, eng_Latn with 2 languages: deu_Latn, swh_Latn)

        Args:
            languages: Codes or names, for instance ``deu_Latn``, ``de`` or ``German``; None for
                all.
            n_pairs: How many pairs; None for all pairs of each language.

        Raises:
            CorpusError: If a language is not in the corpus, or has fewer pairs.
            ConfigError: If ``n_pairs`` is no integer of at least 1.
        """
        if n_pairs is not None:
            n_pairs = whole_number("n_pairs", n_pairs, least=1)
        codes = self.languages if languages is None else _resolve(languages, self.pairs)
        for code in codes:
            if n_pairs is not None and len(self.pairs[code]) < n_pairs:
                raise CorpusError(
                    f"every language needs {n_pairs} pairs, {code} has {len(self.pairs[code])};"
                    f" use n_pairs={min(len(self.pairs[other]) for other in codes)} or leave it out"
                )
        return replace(
            self,
            pairs={code: self.pairs[code][:n_pairs] for code in codes},
            origins={
                key: places[:n_pairs]
                for key, places in self.origins.items()
                if key.partition("/")[0] in codes
            },
        )

    @classmethod
    def from_rows(cls, rows: ParallelRows) -> Self:
        """A corpus of the rows that a reader returned."""
        return cls(
            rows.pivot, rows.pairs, rows.name, rows.origins, rows.dropped, rows.notes, rows.order
        )

    def _check_sentences(self, language: str, columns: Sequence[int]) -> None:
        pairs = self.pairs[language]
        if len(pairs) < 2:
            raise CorpusError(f"every language needs at least 2 pairs, {language} has {len(pairs)}")
        for column in columns:
            seen: dict[str, int] = {}
            for i, pair in enumerate(pairs):
                fault = find_fault(pair[column])
                if fault:
                    where = self.where(language, i, pivot=column == 0)
                    raise CorpusError(f"every sentence must contain text, but {where} {fault}")
                first = seen.setdefault(comparison_key(pair[column]), i)
                if first != i:
                    places = [self.where(language, k, pivot=column == 0) for k in (first, i)]
                    raise CorpusError(
                        f"the sentences of a language must differ, but {' and '.join(places)} are"
                        f" both {shorten(pair[column])!r}; remove one of them"
                    )


def _normalize_pairs(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, tuple[Pair, ...]]:
    # Languages often share their pivot sentences: normalize each of them once.
    pivots: dict[str, str] = {}
    normalized: dict[str, tuple[Pair, ...]] = {}
    for language, rows in pairs.items():
        kept = []
        for i, row in enumerate(rows):
            if isinstance(row, str) or len(row) != 2 or not all(isinstance(t, str) for t in row):
                raise CorpusError(
                    "a pair must be two strings, (pivot sentence, translation), but"
                    f" {language} pair {i + 1} is {row!r}"
                )
            pivot, sentence = row
            if pivot not in pivots:
                pivots[pivot] = normalize_sentence(pivot)
            kept.append((pivots[pivot], normalize_sentence(sentence)))
        normalized[language] = tuple(kept)
    return normalized


def _check_names(pivot: str, languages: Sequence[str]) -> None:
    if not languages:
        raise CorpusError("a corpus needs at least one language besides the pivot, got none")
    if pivot in languages:
        raise CorpusError(f"the pivot {pivot!r} cannot be compared with itself; leave it out")
    for name in (pivot, *languages):
        if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_NAME:
            raise CorpusError(
                "a language needs a name without control characters, of at most"
                f" {LONGEST_NAME} letters, got {shorten(repr(name))}"
            )
        if not name.strip() or "/" in name:
            raise CorpusError(f"a language needs a name without '/', got {name!r}")
        if name in RESERVED or name.startswith(GROUP):
            raise CorpusError(
                f"the language name {name!r} is reserved for a key of the report"
                f" (reserved: {', '.join(RESERVED)}); rename the language"
            )


def _resolve(names: Iterable[str], codes: Iterable[str]) -> list[str]:
    from neuronxa_callback.corpus.languages import resolve_all

    return resolve_all(names, codes)
