"""Which sentences run together: tokenised once, cut into fixed microbatches, made tensors.

Nothing here knows a model. A microbatch holds sentences of one side, sorted by length, so that
its make-up, and with it every rounding of the model, is the same for any number of ranks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.errors import CorpusError

FORWARD_COST = 96
"""What one more microbatch costs, in tokens: it weighs padding against the number of forwards."""


@dataclass(frozen=True)
class Sentence:
    """Token ids of one sentence, and which of them the tokenizer added."""

    ids: tuple[int, ...]
    special: tuple[bool, ...]


Encode = Callable[[str], Sentence]


@dataclass(frozen=True)
class Side:
    """The distinct sentences of one language that run together."""

    language: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Group:
    """A pivot side and the languages that are compared with it."""

    pivot: Side
    targets: tuple[Side, ...]
    rows: tuple[tuple[int, ...], ...]
    """Per target, which pivot sentence pair i has."""


@dataclass(frozen=True)
class Microbatch:
    """Some sentences of one side: the unit of work, never split."""

    group: int
    target: int | None
    """Which target of the group; None for its pivot."""
    rows: tuple[int, ...]
    tokens: int
    """Tokens run, padding included."""


def tokenize(corpus: ParallelCorpus, n_pairs: int, encode: Encode, limit: int) -> "TokenizedCorpus":
    """The first ``n_pairs`` usable pairs of every language, as token ids.

    A pair with a sentence of no tokens, or of more than ``limit``, is dropped and named: in every
    language where the pivot is shared, since the pivot must stay the same. It is never cut.

    Raises:
        CorpusError: If a language is left with fewer than ``n_pairs`` pairs.
    """
    known: dict[str, Sentence] = {}

    def once(text: str) -> Sentence:
        if text not in known:
            known[text] = encode(text)
        return known[text]

    bad: dict[str, dict[int, str]] = {language: {} for language in corpus.languages}
    for language in corpus.languages:
        for i, pair in enumerate(corpus.pairs[language]):
            for side, text in zip((corpus.pivot, language), pair, strict=True):
                length = len(once(text).ids)
                if not 0 < length <= limit:
                    what = f"{length} tokens of {side}, allowed 1 to {limit}"
                    bad[language].setdefault(i, f"{corpus.where(language, i)}: {what}")
    dropped = tuple(dict.fromkeys(words for each in bad.values() for words in each.values()))
    shared = corpus.shared_pivot
    everywhere = {i for each in bad.values() for i in each} if shared else set()
    usable: dict[str, tuple[tuple[str, str], ...]] = {}
    for language in corpus.languages:
        out = everywhere if shared else bad[language].keys()
        pairs = [pair for i, pair in enumerate(corpus.pairs[language]) if i not in out]
        if len(pairs) < n_pairs:
            raise CorpusError(
                f"every language needs {n_pairs} usable pairs, {language} has {len(pairs)} of"
                f" {len(corpus.pairs[language])}"
                + (f" ({len(out)} dropped, first: {dropped[0]})" if dropped else "")
                + f"; set n_pairs={len(pairs)} or leave the language out"
            )
        usable[language] = tuple(pairs[:n_pairs])
    return TokenizedCorpus(usable, known, dropped)


@dataclass(frozen=True)
class TokenizedCorpus:
    """Usable pairs per language, what their sentences are in tokens, and what was dropped."""

    pairs: Mapping[str, tuple[tuple[str, str], ...]]
    known: Mapping[str, Sentence]
    dropped: tuple[str, ...]

    def groups(self, pivot: str) -> tuple[Group, ...]:
        """Languages by the pivot sentences they share; a sentence of a group runs once.

        Languages join a group while at least half of their pivot sentences are in it already and
        its pivot has at most twice as many sentences as one language: memory stays bounded.
        """
        pools: list[tuple[dict[str, int], list[str]]] = []
        for language, pairs in self.pairs.items():
            texts = [pair[0] for pair in pairs]
            home = next((each for each in pools if _belongs(texts, each[0])), None)
            if home is None:
                home = ({}, [])
                pools.append(home)
            for text in texts:
                home[0].setdefault(text, len(home[0]))
            home[1].append(language)
        return tuple(
            Group(
                pivot=Side(pivot, tuple(self.known[text] for text in pool)),
                targets=tuple(
                    Side(name, tuple(self.known[pair[1]] for pair in self.pairs[name]))
                    for name in members
                ),
                rows=tuple(tuple(pool[pair[0]] for pair in self.pairs[name]) for name in members),
            )
            for pool, members in pools
        )

    def same_tokens(self) -> tuple[str, ...]:
        """One sentence per side in which two sentences have equal token ids: they tie for ever."""
        found = []
        for language, pairs in self.pairs.items():
            for column, side in ((0, "the pivot's side of "), (1, "")):
                ids = [self.known[pair[column]].ids for pair in pairs]
                ties = len(ids) - len(dict.fromkeys(ids))
                if ties:
                    found.append(
                        f"{side}{language}: {ties} of {len(ids)} sentences have the same tokens as"
                        " another and can never be aligned (unknown words?)"
                    )
        return tuple(found)


def _belongs(texts: Sequence[str], pool: Mapping[str, int]) -> bool:
    new = sum(text not in pool for text in texts)
    return new <= len(texts) / 2 and len(pool) + new <= 2 * len(texts)


def cut(lengths: Sequence[int], batch_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Rows of each microbatch: sorted by length, at most ``batch_tokens`` with padding.

    The cuts with the least cost, where a microbatch costs its padded tokens and ``FORWARD_COST``.
    A sentence that is longer than ``batch_tokens`` runs alone.
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    ends = [k + 1 for k in range(len(order)) if k + 1 == len(order) or _steps(order, lengths, k)]
    best: dict[int, tuple[float, int]] = {0: (0.0, 0)}
    for end in ends:
        longest = lengths[order[end - 1]]
        for start in sorted(best, reverse=True):
            tokens = (end - start) * longest
            if tokens > batch_tokens and end - start > 1 and end in best:
                break
            cost = best[start][0] + _cost(end - start, longest, batch_tokens)
            if end not in best or cost < best[end][0]:
                best[end] = (cost, start)
    cuts, end = [], len(order)
    while end > 0:
        start = best[end][1]
        cuts.append(order[start:end])
        end = start
    return tuple(
        tuple(piece) for whole in reversed(cuts) for piece in _fit(whole, lengths, batch_tokens)
    )


def _steps(order: Sequence[int], lengths: Sequence[int], k: int) -> bool:
    return lengths[order[k]] != lengths[order[k + 1]]


def _cost(rows: int, longest: int, batch_tokens: int) -> float:
    forwards = -(-rows * longest // max(batch_tokens, longest))
    return rows * longest + forwards * FORWARD_COST


def _fit(rows: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> list[Sequence[int]]:
    most = max(1, batch_tokens // lengths[rows[-1]])
    pieces = -(-len(rows) // most)
    bounds = [round(k * len(rows) / pieces) for k in range(pieces + 1)]
    return [rows[a:b] for a, b in pairwise(bounds)]


def microbatches(groups: Sequence[Group], batch_tokens: int) -> tuple[Microbatch, ...]:
    """All work in order: per group its pivot, then its targets."""
    found = []
    for g, group in enumerate(groups):
        for target, side in [(None, group.pivot), *enumerate(group.targets)]:
            lengths = [len(sentence.ids) for sentence in side.sentences]
            for rows in cut(lengths, batch_tokens):
                tokens = len(rows) * max(lengths[row] for row in rows)
                found.append(Microbatch(g, target, rows, tokens))
    return tuple(found)


@dataclass(frozen=True)
class Batch:
    """A microbatch as tensors [batch, tokens], right-padded."""

    ids: Tensor
    counts: Tensor
    """Which tokens count: all but padding."""
    special: Tensor
    """Which tokens the tokenizer added."""

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        return Batch(self.ids.to(device), self.counts.to(device), self.special.to(device))


def collate(sentences: Sequence[Sentence], pad: int) -> Batch:
    """Right-padded tensors of some sentences."""
    width = max(len(sentence.ids) for sentence in sentences)
    ids = torch.full((len(sentences), width), pad, dtype=torch.long)
    counts = torch.zeros((len(sentences), width), dtype=torch.bool)
    special = torch.zeros((len(sentences), width), dtype=torch.bool)
    for row, sentence in enumerate(sentences):
        length = len(sentence.ids)
        ids[row, :length] = torch.tensor(sentence.ids)
        counts[row, :length] = True
        special[row, :length] = torch.tensor(sentence.special)
    return Batch(ids, counts, special)
