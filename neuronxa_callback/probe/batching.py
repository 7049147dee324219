"""Which sentences run together: cut into fixed microbatches, made into tensors.

Nothing here depends on a model. A microbatch holds sentences of about equal length, of one pivot or
of up to ``WINDOW`` languages. Its composition, and with it every rounding of the model, is the same
for any number of ranks.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from neuronxa_callback.corpus import surface
from neuronxa_callback.corpus.rows import PIVOT

CPU = torch.device("cpu")
FORWARD_COST = 208
"""Fixed cost of a microbatch in tokens: it weighs padding against the number of forwards."""
WINDOW = 32
"""Number of languages whose sentences run together; memory does not grow beyond one window."""
MAX_LOAD, MIN_PER_RANK, MAX_RANKS = 1.12, 4, 128
"""Tokens of the busiest rank over the mean, for up to so many ranks with so many microbatches."""


@dataclass(frozen=True)
class Sentence:
    """Token ids of one sentence, and which of them the tokenizer added."""

    ids: tuple[int, ...]
    special: tuple[bool, ...]


@dataclass(frozen=True)
class Side:
    """The sentences of one language."""

    language: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class PivotGroup:
    """A pivot side and the languages that are compared with it."""

    pivot: Side
    targets: tuple[Side, ...]
    rows: tuple[tuple[int, ...], ...]
    """Per target, the pivot sentence of each pair."""

    @cached_property
    def windows(self) -> tuple["Window", ...]:
        """The targets in order, ``WINDOW`` languages at a time."""
        starts = range(0, len(self.targets), WINDOW)
        return tuple(Window.of(self.targets, start, start + WINDOW) for start in starts)

    def sentences(self, window: int | None) -> tuple[Sentence, ...]:
        """The sentences of a window; those of the pivot for None."""
        return self.pivot.sentences if window is None else self.windows[window].sentences


@dataclass(frozen=True)
class Window:
    """Some languages of a group, whose sentences run together."""

    sentences: tuple[Sentence, ...]
    """Those of each language in turn."""
    rows: Mapping[int, slice]
    """Index of a target in its group -> its part of ``sentences``."""

    @classmethod
    def of(cls, targets: Sequence[Side], start: int, stop: int) -> "Window":
        """The window of the targets ``start`` to ``stop``."""
        sentences: tuple[Sentence, ...] = ()
        rows = {}
        for k, side in enumerate(targets[start:stop], start):
            rows[k] = slice(len(sentences), len(sentences) + len(side.sentences))
            sentences += side.sentences
        return cls(sentences, rows)


@dataclass(frozen=True)
class Microbatch:
    """Some sentences of a pivot or of a window: the unit of work, never split."""

    group: int
    window: int | None
    """Index of the window in its group; None for the pivot."""
    rows: tuple[int, ...]
    """Indices into the sentences of the pivot or of the window."""
    tokens: int
    """Number of tokens, padding included."""


@dataclass(frozen=True)
class TokenizedCorpus:
    """The usable pairs of each language, their token ids, and the dropped pairs."""

    pairs: Mapping[str, tuple[tuple[str, str], ...]]
    """language -> (pivot text, target text) of each pair."""
    sentences: Mapping[tuple[str, str], Sentence]
    """(language, text) -> its tokens."""
    dropped: tuple[str, ...]
    """One message per dropped pair."""
    pivot: str = PIVOT

    def pair_tokens(self, language: str) -> tuple[tuple[Sentence, Sentence], ...]:
        """The tokens of (pivot, target) of each pair of a language."""
        return tuple(
            (self.sentences[self.pivot, pivot], self.sentences[language, target])
            for pivot, target in self.pairs[language]
        )

    @cached_property
    def surface_hits(self) -> dict[str, list[bool]]:
        """Language -> which pairs character 3-grams align."""
        return {language: surface.surface_hits(pairs) for language, pairs in self.pairs.items()}

    def groups(self, pivot: str) -> tuple[PivotGroup, ...]:
        """Groups languages by the pivot sentences they share; each sentence runs once per group.

        A language joins a group if at least half of its pivot sentences are already in it, and the
        group's pivot stays at most twice as large as the language: this bounds memory.
        """
        groups: list[tuple[dict[str, int], list[str]]] = []
        for language, pairs in self.pairs.items():
            texts = [pair[0] for pair in pairs]
            group = next((group for group in groups if _fits(texts, group[0])), None)
            if group is None:
                group = ({}, [])
                groups.append(group)
            for text in texts:
                group[0].setdefault(text, len(group[0]))
            group[1].append(language)
        return tuple(
            PivotGroup(
                pivot=Side(pivot, tuple(self.sentences[pivot, text] for text in index)),
                targets=tuple(
                    Side(name, tuple(target for _, target in self.pair_tokens(name)))
                    for name in languages
                ),
                rows=tuple(
                    tuple(index[pair[0]] for pair in self.pairs[name]) for name in languages
                ),
            )
            for index, languages in groups
        )


def _fits(texts: Sequence[str], index: Mapping[str, int]) -> bool:
    new = sum(text not in index for text in texts)
    return new <= len(texts) / 2 and len(index) + new <= 2 * len(texts)


def microbatches(groups: Sequence[PivotGroup], batch_tokens: int) -> tuple[Microbatch, ...]:
    """All work in order: per group its pivot, then its windows."""
    work = []
    for g, group in enumerate(groups):
        for window in (None, *range(len(group.windows))):
            lengths = [len(sentence.ids) for sentence in group.sentences(window)]
            work += [_microbatch(g, window, rows, lengths) for rows in cut(lengths, batch_tokens)]
    return _balanced(work, groups)


def _microbatch(
    group: int, window: int | None, rows: tuple[int, ...], lengths: Sequence[int]
) -> Microbatch:
    return Microbatch(group, window, rows, len(rows) * max(lengths[row] for row in rows))


def _balanced(work: list[Microbatch], groups: Sequence[PivotGroup]) -> tuple[Microbatch, ...]:
    """Halves as few microbatches as any number of ranks needs, if each has four or more."""
    for ranks in range(2, MAX_RANKS + 1):
        while (
            MIN_PER_RANK * ranks <= len(work)
            and imbalance([m.tokens for m in work], ranks) > MAX_LOAD
        ):
            k = max(range(len(work)), key=lambda k: (work[k].tokens * (len(work[k].rows) > 1), -k))
            whole = work[k]
            if len(whole.rows) == 1:
                break
            lengths = [len(each.ids) for each in groups[whole.group].sentences(whole.window)]
            middle = len(whole.rows) // 2
            work[k : k + 1] = [
                _microbatch(whole.group, whole.window, rows, lengths)
                for rows in (whole.rows[:middle], whole.rows[middle:])
            ]
    return tuple(work)


def cut(lengths: Sequence[int], batch_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Rows of each microbatch: sorted by length, at most ``batch_tokens`` with padding.

    Of all cuts the one with the least cost, by dynamic programming; a microbatch costs its padded
    tokens plus ``FORWARD_COST``. A sentence longer than ``batch_tokens`` runs alone.

    >>> cut([3, 500, 4, 501], batch_tokens=4096)
    ((0, 2), (1, 3))
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    cost = np.zeros(len(order) + 1, dtype=np.int64)
    starts = [0]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        first = max(0, end - max(1, batch_tokens // longest))
        costs = cost[first:end] + longest * np.arange(end - first, 0, -1)
        starts.append(first + int(costs.argmin()))
        cost[end] = costs.min() + FORWARD_COST
    cuts, end = [], len(order)
    while end > 0:
        cuts.append(tuple(order[starts[end] : end]))
        end = starts[end]
    return tuple(reversed(cuts))


def imbalance(tokens: Sequence[int], ranks: int) -> float:
    """Load of the busiest rank over the mean, if the longest run first, on the least-loaded.

    >>> imbalance([5, 4, 3, 3, 3], ranks=2)
    1.1111111111111112
    """
    loads = [0] * ranks
    for most in sorted(tokens, reverse=True):
        heapq.heapreplace(loads, loads[0] + most)
    return max(loads) * ranks / sum(loads)


@dataclass(frozen=True)
class Batch:
    """A microbatch as tensors [batch, tokens], padded on the right."""

    ids: Tensor
    mask: Tensor
    """bool: all tokens but padding."""
    special: Tensor
    """bool: tokens that the tokenizer added."""

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.ids.to(device), self.mask.to(device), self.special.to(device))


def collate(sentences: Sequence[Sentence], pad: int) -> Batch:
    """Sentences as tensors [batch, tokens], padded on the right with the id ``pad``.

    >>> collate([Sentence((5, 6), (True, False)), Sentence((7,), (True,))], pad=0).ids.tolist()
    [[5, 6], [7, 0]]
    """
    width = max(len(sentence.ids) for sentence in sentences)
    ids = torch.full((len(sentences), width), pad, dtype=torch.long, device=CPU)
    mask = torch.zeros((len(sentences), width), dtype=torch.bool, device=CPU)
    special = torch.zeros((len(sentences), width), dtype=torch.bool, device=CPU)
    for row, sentence in enumerate(sentences):
        length = len(sentence.ids)
        ids[row, :length] = torch.tensor(sentence.ids, device=CPU)
        mask[row, :length] = True
        special[row, :length] = torch.tensor(sentence.special, device=CPU)
    return Batch(ids, mask, special)
