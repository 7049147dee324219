"""How often the neurons of a layer fire, per language: whole numbers, exact in any order.

A neuron fires at a token if its gate is above 0 (NAS, arXiv:2507.14900). Special tokens and padding
do not count. Language 0 is the pivot; sentence i of all languages has the same meaning.

The numbers are held as floats, which add whole numbers exactly: below 2^24 in fp32 (at most the
tokens of a language), below 2^53 in fp64 (squares; fp32 on a device without fp64). So a microbatch
is added by a few matrix products. NaN among its states makes the counts of the layer NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment


@dataclass(frozen=True)
class SentenceTokens:
    """The sentences of a microbatch, one entry [batch] each."""

    language: Tensor
    """0 for the pivot, then the languages in order; int64."""
    pair: Tensor
    """The number i of the sentence within its language; int64."""
    tokens: Tensor
    """Its real tokens without special ones; int64."""

    @cached_property
    def _sums(self) -> "dict[int, _Sums]":
        return {}

    def sums(self, languages: int) -> "_Sums":
        """What adds up the sentences of each of so many languages; made once per microbatch."""
        if languages not in self._sums:
            self._sums[languages] = _Sums.of(self, languages)
        return self._sums[languages]


@dataclass(frozen=True)
class _Sums:
    """Matrices whose product with rows per sentence adds up those of each language."""

    halves: Tensor
    """[2 languages, batch] fp32: 1 for a sentence of that half and language."""
    languages: Tensor
    """[languages, batch] fp32: 1 for a sentence of that language."""
    exact: Tensor
    """The same in fp64."""
    weighted: Tensor
    """``exact`` times the tokens of each sentence."""
    tokens: Tensor
    """[2, languages] int64: tokens of the even and of the odd sentences."""
    squares: Tensor
    """[languages] int64: tokens squared."""

    @classmethod
    def of(cls, batch: SentenceTokens, languages: int) -> "_Sums":
        numbers = torch.arange(2 * languages, device=batch.language.device)[:, None]
        halves = numbers == batch.pair % 2 * languages + batch.language
        own = halves.view(2, languages, -1).any(dim=0)
        exact = own.to(alignment.product_dtype(own.device))
        return cls(
            halves=halves.float(),
            languages=own.float(),
            exact=exact,
            weighted=exact * batch.tokens,
            tokens=(halves * batch.tokens).sum(dim=1).view(2, languages),
            squares=(own * batch.tokens**2).sum(dim=1),
        )


class FiringCounts:
    """Counts of one layer; ``add`` takes microbatches in any order, on any rank.

    Args:
        languages: K, the pivot included.
        pairs: n.
        neurons: D, the neurons of the layer.
        device: Where the counts are kept: about ``(4 K + 2 n) D`` numbers of 4 bytes and
            ``2 K D`` of 8 bytes.

    Example:
        >>> counts = FiringCounts(languages=2, pairs=1, neurons=3, device=torch.device("cpu"))
        >>> batch = SentenceTokens(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([4, 2]))
        >>> fired = torch.tensor([[4.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
        >>> last = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
        >>> counts.add(fired, last, batch)
        >>> counts.rates().tolist()
        [[1.0, 0.25, 0.0], [1.0, 0.0, 0.0]]
        >>> counts.languages_any.tolist()
        [[2.0, 1.0, 0.0]]
    """

    def __init__(self, languages: int, pairs: int, neurons: int, device: torch.device) -> None:
        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        exact = alignment.product_dtype(device)
        self.tokens = zeros(2, languages, dtype=torch.int64)
        """[half, language]: tokens of the even and of the odd sentences."""
        self.token_squares = zeros(languages, dtype=torch.int64)
        """[language]: sum over sentences of tokens squared."""
        self.firings = zeros(2, languages, neurons)
        """[half, language, neuron]: tokens at which it fires, in even and in odd sentences."""
        self.firing_squares = zeros(languages, neurons, dtype=exact)
        """[language, neuron]: sum over sentences of firings squared."""
        self.firing_tokens = zeros(languages, neurons, dtype=exact)
        """[language, neuron]: sum over sentences of firings times tokens."""
        self.sentences_any = zeros(languages, neurons)
        """[language, neuron]: sentences in which it fires at any token."""
        self.sentences_last = zeros(languages, neurons)
        """[language, neuron]: sentences in which it fires at the last token."""
        self.languages_any = zeros(pairs, neurons)
        """[pair, neuron]: languages in which it fires at any token of sentence i."""
        self.languages_last = zeros(pairs, neurons)
        """[pair, neuron]: languages in which it fires at the last token of sentence i."""

    def add(self, fired: Tensor, last: Tensor, batch: SentenceTokens) -> None:
        """Adds a microbatch.

        Args:
            fired: [batch, neurons] fp32, the number of tokens at which each neuron fires.
            last: [batch, neurons] fp32, 1 where it fires at the last token, else 0.
            batch: Which sentences these are; each sentence is added once.
        """
        sums = batch.sums(len(self.token_squares))
        self.tokens += sums.tokens
        self.token_squares += sums.squares
        anywhere, exact = (fired > 0).float(), fired.to(sums.exact.dtype)
        with alignment.full_precision(fired.device):
            self.firings.flatten(0, 1).addmm_(sums.halves, fired)
            self.firing_tokens.addmm_(sums.weighted, exact)
            self.firing_squares.addmm_(sums.exact, exact.square())
            self.sentences_any.addmm_(sums.languages, anywhere)
            self.sentences_last.addmm_(sums.languages, last)
        self.languages_any.index_add_(0, batch.pair, anywhere)
        self.languages_last.index_add_(0, batch.pair, last)

    def holds_nan(self) -> bool:
        """Whether a state was NaN."""
        return bool(self.firings.isnan().any())

    @classmethod
    def of_layer(cls, parts: "Sequence[FiringCounts]") -> "FiringCounts":
        """The counts of a layer whose neurons are those of several parts, in their order."""
        joined, first = cls.__new__(cls), parts[0]
        for name, counts in vars(first).items():
            whole = counts
            if name not in ("tokens", "token_squares"):
                whole = torch.cat([getattr(part, name) for part in parts], dim=-1)
            setattr(joined, name, whole)
        return joined

    def tensors(self) -> tuple[Tensor, ...]:
        """All counts, in a fixed order: their sums over ranks are the counts of all ranks."""
        return tuple(vars(self).values())

    def rates(self) -> Tensor:
        """The share p of tokens at which each neuron fires [languages, neurons], float64."""
        return self.firings.sum(0).double() / self.tokens.sum(0).double()[:, None]

    def half_rates(self) -> Tensor:
        """The same of the even and of the odd sentences [half, languages, neurons]."""
        return self.firings.double() / self.tokens.double()[..., None]

    def design_effect(self) -> Tensor:
        """[languages, neurons]: variance of p over that of independent tokens; NaN for p 0 or 1.

        The sentences are the sample, p is a ratio estimate (Cochran 1977, chapter 2); so the
        standard error of p is ``sqrt(deff * p * (1 - p) / T)`` for T tokens.
        """
        p, n = self.rates(), self.languages_any.shape[0]
        total = self.tokens.sum(0).double()[:, None]
        squares = self.token_squares.double()[:, None]
        deviations = self.firing_squares - 2 * p * self.firing_tokens + p**2 * squares
        variance = deviations.clamp(min=0) * n / (n - 1) / total**2
        independent = p * (1 - p) / total
        return torch.where(independent > 0, variance / independent, torch.nan)
