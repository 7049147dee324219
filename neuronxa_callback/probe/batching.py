"""Which sentences run together: tokenized once, cut into fixed microbatches, made into tensors.

Nothing here depends on a model. A microbatch holds sentences of one side, sorted by length. Its
composition, and with it every rounding of the model, is the same for any number of ranks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.rows import PIVOT
from neuronxa_callback.corpus.text import shorten
from neuronxa_callback.errors import ConfigError, CorpusError

CPU = torch.device("cpu")
FORWARD_COST = 96
"""Fixed cost of a microbatch in tokens: it weighs padding against the number of forwards."""


@dataclass(frozen=True)
class Sentence:
    """Token ids of one sentence, and which of them the tokenizer added."""

    ids: tuple[int, ...]
    special: tuple[bool, ...]


Tokenize = Callable[[str, str], Sentence]
"""(text, language) -> its tokens."""


@dataclass(frozen=True)
class Side:
    """The distinct sentences of one language that run together."""

    language: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class PivotGroup:
    """A pivot side and the languages that are compared with it."""

    pivot: Side
    targets: tuple[Side, ...]
    rows: tuple[tuple[int, ...], ...]
    """Per target, the pivot sentence of each pair."""

    def side(self, target: int | None) -> Side:
        """One of the targets; the pivot for None."""
        return self.pivot if target is None else self.targets[target]


@dataclass(frozen=True)
class Microbatch:
    """Some sentences of one side: the unit of work, never split."""

    group: int
    target: int | None
    """Index of the target in its group; None for the pivot."""
    rows: tuple[int, ...]
    """Indices of the sentences in their side."""
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


def tokenize(
    corpus: ParallelCorpus, n_pairs: int, tokenize_sentence: Tokenize, limit: int
) -> TokenizedCorpus:
    """The first ``n_pairs`` usable pairs of every language, as token ids.

    A pair is dropped if one of its sentences has no tokens or more than ``limit``; it is never
    cut. If the pivot is shared, the pair is dropped in every language, so that the pivot stays the
    same.

    Raises:
        CorpusError: If a language is left with fewer than ``n_pairs`` pairs.
        ConfigError: If two encodings of one sentence differ.
    """
    sentences = _tokenize_twice(corpus, tokenize_sentence)
    unusable = {lang: _unusable_pairs(corpus, lang, sentences, limit) for lang in corpus.languages}
    dropped = tuple(dict.fromkeys(text for pairs in unusable.values() for text in pairs.values()))
    anywhere = {i for pairs in unusable.values() for i in pairs}
    usable: dict[str, tuple[tuple[str, str], ...]] = {}
    for language in corpus.languages:
        excluded = anywhere if corpus.shared_pivot else unusable[language].keys()
        pairs = [pair for i, pair in enumerate(corpus.pairs[language]) if i not in excluded]
        if len(pairs) < n_pairs:
            raise CorpusError(
                f"every language needs {n_pairs} usable pairs, {language} has {len(pairs)} of"
                f" {len(corpus.pairs[language])}"
                + (f" ({len(excluded)} dropped, first: {dropped[0]})" if dropped else "")
                + f"; set n_pairs={len(pairs)} or leave the language out"
            )
        usable[language] = tuple(pairs[:n_pairs])
    return TokenizedCorpus(usable, sentences, dropped, corpus.pivot)


def _tokenize_twice(
    corpus: ParallelCorpus, tokenize_sentence: Tokenize
) -> dict[tuple[str, str], Sentence]:
    pivots = [(corpus.pivot, pair[0]) for pairs in corpus.pairs.values() for pair in pairs]
    targets = [(name, pair[1]) for name, pairs in corpus.pairs.items() for pair in pairs]
    keys = tuple(dict.fromkeys((*pivots, *targets)))
    sentences = {(name, text): tokenize_sentence(text, name) for name, text in keys}
    for (name, text), sentence in sentences.items():
        if tokenize_sentence(text, name) != sentence:
            raise ConfigError(
                "the tokenizer must give the same tokens for the same sentence, but two encodings"
                f" of {shorten(text)!r} differ; switch its random segmentation off (BPE dropout,"
                " SentencePiece sampling)"
            )
    return sentences


def _unusable_pairs(
    corpus: ParallelCorpus, language: str, sentences: Mapping[tuple[str, str], Sentence], limit: int
) -> dict[int, str]:
    """Pair -> the reason why it cannot be used, with its place in the corpus."""
    reasons: dict[int, str] = {}
    for i, pair in enumerate(corpus.pairs[language]):
        for side, text in zip((corpus.pivot, language), pair, strict=True):
            length = len(sentences[side, text].ids)
            if not 0 < length <= limit:
                reason = f"{length} tokens of {side}, allowed 1 to {limit}"
                reasons.setdefault(i, f"{corpus.where(language, i)}: {reason}")
    return reasons


def microbatches(groups: Sequence[PivotGroup], batch_tokens: int) -> tuple[Microbatch, ...]:
    """All work in order: per group its pivot, then its targets."""
    work = []
    for g, group in enumerate(groups):
        for target in (None, *range(len(group.targets))):
            lengths = [len(sentence.ids) for sentence in group.side(target).sentences]
            for rows in cut(lengths, batch_tokens):
                tokens = len(rows) * max(lengths[row] for row in rows)
                work.append(Microbatch(g, target, rows, tokens))
    return tuple(work)


def cut(lengths: Sequence[int], batch_tokens: int) -> tuple[tuple[int, ...], ...]:
    """Rows of each microbatch: sorted by length, at most ``batch_tokens`` with padding.

    Of all cuts the one with the least cost, by dynamic programming; a microbatch costs its padded
    tokens plus ``FORWARD_COST``. A sentence longer than ``batch_tokens`` runs alone.

    >>> cut([3, 100, 4, 101], batch_tokens=4096)
    ((0, 2), (1, 3))
    """
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    ends = [
        k + 1
        for k in range(len(order))
        if k + 1 == len(order) or lengths[order[k]] != lengths[order[k + 1]]
    ]
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
        tuple(rows) for whole in reversed(cuts) for rows in _split(whole, lengths, batch_tokens)
    )


def _cost(rows: int, longest: int, batch_tokens: int) -> float:
    forwards = -(-rows * longest // max(batch_tokens, longest))
    return rows * longest + forwards * FORWARD_COST


def _split(rows: Sequence[int], lengths: Sequence[int], batch_tokens: int) -> list[Sequence[int]]:
    """Pieces of about equal size that fit ``batch_tokens``."""
    most = max(1, batch_tokens // lengths[rows[-1]])
    pieces = -(-len(rows) // most)
    bounds = [round(k * len(rows) / pieces) for k in range(pieces + 1)]
    return [rows[a:b] for a, b in pairwise(bounds)]


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
