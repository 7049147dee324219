"""Parallel sentences as a value: pairs per language, refused where they cannot be measured.

A sentence is kept in Unicode NFC without white space around it, and otherwise as it was written.
Two sentences are the same where they differ in white space only. Standard library only.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from neuronxa_callback.corpus.text import clean, fault_of, same, shortened
from neuronxa_callback.errors import CorpusError, unknown

if TYPE_CHECKING:
    from neuronxa_callback.corpus.check import Finding

Pair = tuple[str, str]
"""A pivot sentence and its translation."""

RESERVED = ("mean", "chance", "early", "middle", "late", "peak", "seconds", "low", "high", "worst")
"""Words of the report's keys, which no language may be called by."""

SPLITS = ("dev", "test")
PIVOT = "eng_Latn"
BUILTIN = Path(__file__).parent / "builtin"
BUILTIN_VERSION = 1
"""Rises whenever a built-in sentence changes: scores of two versions are not one curve."""


@dataclass(frozen=True)
class ParallelCorpus:
    """Sentences of a pivot language and their translations, in order.

    Raises:
        CorpusError: On construction, if there is no language; if a language is the pivot, has a
            reserved name, fewer than 2 pairs, a blank sentence or the same sentence twice.
    """

    pivot: str = PIVOT
    pairs: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    """language -> its pairs: (pivot sentence, sentence)."""
    name: str = "custom"
    """What it is called where it is printed, for instance ``builtin:dev@1``."""
    origins: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False, repr=False)
    """language -> per pair where it stood, ``file:line``, as far as that is known; the pivot's
    side of a language under ``deu_Latn/eng_Latn``."""
    dropped: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """One sentence for each pair that a reader left out: file, line and reason."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pairs", _clean(self.pairs))
        object.__setattr__(self, "dropped", tuple(self.dropped))
        object.__setattr__(self, "origins", {k: tuple(v) for k, v in self.origins.items()})
        _check_names(self.pivot, self.languages)
        for language in self.languages:
            self._check_sentences(language)

    def __hash__(self) -> int:
        return int(self.digest[:15], 16)

    def __repr__(self) -> str:
        languages = ", ".join(self.languages[:5]) + (", …" if len(self.languages) > 5 else "")
        return (
            f"ParallelCorpus({self.name!r}: {self.n_pairs} pairs, {self.pivot} with"
            f" {len(self.languages)} languages: {languages})"
        )

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages that are compared with the pivot, in order."""
        return tuple(self.pairs)

    @property
    def n_pairs(self) -> int:
        """How many pairs every language has: those of the language with the fewest."""
        return min(map(len, self.pairs.values()))

    @cached_property
    def shared_pivot(self) -> bool:
        """Whether all languages have the same pivot sentences, pair by pair."""
        columns = ([pivot for pivot, _ in pairs] for pairs in self.pairs.values())
        first = next(columns)
        return all(column == first for column in columns)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of pivot, languages and sentences, whatever the order of the languages."""
        found = hashlib.sha256(json.dumps(self.pivot).encode())
        for language in sorted(self.pairs):
            found.update(json.dumps([language, self.pairs[language]]).encode())
        return found.hexdigest()

    def where(self, language: str, i: int, pivot: bool = False) -> str:
        """Where pair i (from 0) of a language stood: ``file:line``, or ``deu_Latn pair 3``.

        With ``pivot``, where its pivot sentence stood.
        """
        known = self.origins.get(f"{language}/{self.pivot}" if pivot else language, ())
        if i < len(known):
            return known[i]
        return (
            f"{self.pivot} side of {self.where(language, i)}"
            if pivot
            else f"{language} pair {i + 1}"
        )

    def select(self, languages: Iterable[str] | None = None, n_pairs: int | None = None) -> Self:
        """Some of the languages, in the order given, and the first ``n_pairs`` of each.

        Args:
            languages: Codes or names, for instance ``deu_Latn``, ``de`` or ``German``.
            n_pairs: How many pairs; None for as many as each language has.

        Raises:
            CorpusError: If a language is not in the corpus, or has fewer pairs.
        """
        names = self.languages if languages is None else _resolve(languages, self.pairs)
        for name in names:
            if n_pairs is not None and len(self.pairs[name]) < n_pairs:
                raise CorpusError(
                    f"every language needs {n_pairs} pairs, {name} has {len(self.pairs[name])};"
                    f" use n_pairs={min(len(self.pairs[each]) for each in names)} or leave it out"
                )
        return replace(
            self,
            pairs={name: self.pairs[name][:n_pairs] for name in names},
            origins={
                key: places[:n_pairs]
                for key, places in self.origins.items()
                if key.partition("/")[0] in names
            },
        )

    def check(self, tokenizer: Any = None, max_length: int = 512) -> "tuple[Finding, ...]":
        """What is wrong or doubtful in these sentences, errors first; see ``corpus.check``."""
        from neuronxa_callback.corpus.check import check

        return check(self, tokenizer, max_length)

    @classmethod
    def builtin(
        cls, split: str = "dev", languages: Iterable[str] | None = None, pivot: str = PIVOT
    ) -> Self:
        """The sentences that come with the package, in two independent halves.

        Args:
            split: ``"dev"`` to watch a training with, ``"test"`` to confirm what was chosen.
            languages: Codes or names; None for all there are but the pivot.
            pivot: The language that the others are compared with.

        Raises:
            CorpusError: If there is no such split or language.
        """
        if split not in SPLITS:
            raise CorpusError(unknown("split of the built-in corpus", split, SPLITS))
        files = {path.stem: path for path in sorted((BUILTIN / split).glob("*.txt"))}
        (pivot,) = _resolve([pivot], files)
        names = [name for name in files if name != pivot]
        if languages is not None:
            names = _resolve(languages, files)
        texts = {name: _lines(files[name]) for name in (pivot, *names)}
        if len({len(lines) for lines in texts.values()}) > 1:
            counts = {name: len(lines) for name, lines in texts.items()}
            raise CorpusError(f"built-in files must have equally many lines, got {counts}")
        places = {
            name: tuple(f"{name}.txt:{i + 1}" for i in range(len(lines)))
            for name, lines in texts.items()
        }
        return cls(
            pivot,
            {name: tuple(zip(texts[pivot], texts[name], strict=True)) for name in names},
            name=f"builtin:{split}@{BUILTIN_VERSION}",
            origins={name: places[name] for name in names}
            | {f"{name}/{pivot}": places[pivot] for name in names},
        )

    @staticmethod
    def from_folder(path: str | Path, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """Files ``<code>.<ext>`` like FLORES; options as in ``readers.from_folder``."""
        from neuronxa_callback.corpus.readers import folder

        return folder.from_folder(path, pivot, **options)

    @staticmethod
    def from_tatoeba(path: str | Path, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """Pairs of files with a pivot side each; options as in ``readers.from_tatoeba``."""
        from neuronxa_callback.corpus.readers import folder

        return folder.from_tatoeba(path, pivot, **options)

    @staticmethod
    def from_bible(path: str | Path, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """Files of verses, parallel by verse id; options as in ``bible.from_bible``."""
        from neuronxa_callback.corpus.readers import bible

        return bible.from_bible(path, pivot, **options)

    @staticmethod
    def from_tsv(path: str | Path, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """A tsv or csv file with a header of languages; options as in ``tables.from_tsv``."""
        from neuronxa_callback.corpus.readers import tables

        return tables.from_tsv(path, pivot, **options)

    @staticmethod
    def from_jsonl(path: str | Path, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """One JSON object of sentences per line; options as in ``tables.from_jsonl``."""
        from neuronxa_callback.corpus.readers import tables

        return tables.from_jsonl(path, pivot, **options)

    @staticmethod
    def from_dataset(dataset: Any, pivot: str = PIVOT, **options: Any) -> "ParallelCorpus":
        """A hub name or an iterable of dictionaries; options as in ``tables.from_dataset``."""
        from neuronxa_callback.corpus.readers import tables

        return tables.from_dataset(dataset, pivot, **options)

    def _check_sentences(self, language: str) -> None:
        pairs = self.pairs[language]
        if len(pairs) < 2:
            raise CorpusError(f"every language needs at least 2 pairs, {language} has {len(pairs)}")
        for column in (0, 1):
            seen: dict[str, int] = {}
            for i, pair in enumerate(pairs):
                fault = fault_of(pair[column])
                if fault:
                    where = self.where(language, i, pivot=column == 0)
                    raise CorpusError(f"every sentence must hold text, {where} {fault}")
                first = seen.setdefault(same(pair[column]), i)
                if first != i:
                    places = [self.where(language, k, pivot=column == 0) for k in (first, i)]
                    raise CorpusError(
                        f"every sentence of a language must differ, {' and '.join(places)} are"
                        f" both {shortened(pair[column])!r}; drop one of the two"
                    )


def _clean(pairs: Mapping[str, Sequence[Pair]]) -> dict[str, tuple[Pair, ...]]:
    # The pivot sentences are often the same in every language: normalise them once.
    known: dict[str, str] = {}
    found: dict[str, tuple[Pair, ...]] = {}
    for language, rows in pairs.items():
        done = []
        for i, row in enumerate(rows):
            if isinstance(row, str) or len(row) != 2 or not all(isinstance(t, str) for t in row):
                raise CorpusError(
                    f"a pair must be two texts, (pivot sentence, sentence), {language} pair"
                    f" {i + 1} is {row!r}"
                )
            pivot, sentence = row
            if pivot not in known:
                known[pivot] = clean(pivot)
            done.append((known[pivot], clean(sentence)))
        found[language] = tuple(done)
    return found


def _check_names(pivot: str, languages: Sequence[str]) -> None:
    if not languages:
        raise CorpusError("a corpus needs at least one language beside the pivot, got none")
    if pivot in languages:
        raise CorpusError(f"the pivot {pivot!r} cannot be compared with itself; leave it out")
    for name in (pivot, *languages):
        if not name.strip() or "/" in name:
            raise CorpusError(f"a language must have a name without '/', got {name!r}")
        if name in RESERVED:
            raise CorpusError(
                f"no language may be called {name!r}, which is a key of the report"
                f" (reserved: {', '.join(RESERVED)})"
            )


def _resolve(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Which of the known languages are meant; exact names need no library."""
    if isinstance(names, str):
        names = (names,)
    known = tuple(known)
    found = []
    for name in names:
        if name not in known:
            from neuronxa_callback.corpus.languages import resolve

            name = resolve(name, known)
        found.append(name)
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
