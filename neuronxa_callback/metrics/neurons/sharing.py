"""Sharing: in how many languages a neuron fires for one and the same sentence (arXiv:2406.09265).

A neuron that always fires is shared by all languages whatever they say. The null tells how much of
that there is: sentences are re-paired at random within each language. The excess over it is the
number to look at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

KINDS = ("all", "partial", "specific", "silent")


@dataclass(frozen=True)
class Sharing:
    """Shares of the neurons of one layer, averaged over sentences; each sums to 1.

    In the order of ``KINDS``: a neuron fires in all K languages, in 2 to K - 1, in one, in none.
    """

    shares: tuple[float, ...]
    null: tuple[float, ...]
    """The expected shares if sentences are re-paired within languages; exact."""
    errors: tuple[float, ...]
    """Standard errors of ``shares``; the sentences are the sample."""

    @property
    def excess(self) -> tuple[float, ...]:
        """``shares`` minus ``null``."""
        return tuple(a - b for a, b in zip(self.shares, self.null, strict=True))


def sharing(in_languages: Tensor, sentences: Tensor) -> Sharing:
    """How many languages share the neurons of a layer.

    Args:
        in_languages: Whole numbers [pairs, neurons]: languages in which the neuron fires for
            sentence i.
        sentences: Whole numbers [languages, neurons]: sentences in which it fires.

    Example:
        >>> counts = torch.tensor([[2, 1, 0], [2, 0, 1]])
        >>> found = sharing(in_languages=counts, sentences=counts)
        >>> [round(share, 3) for share in found.shares]
        [0.333, 0.0, 0.333, 0.333]
        >>> [round(share, 3) for share in found.null]
        [0.333, 0.0, 0.333, 0.333]
    """
    pairs, neurons = in_languages.shape
    languages = len(sentences)
    on = (in_languages == languages, in_languages == 1, in_languages == 0)
    everywhere, specific, silent = (
        kind.sum(dim=1, dtype=torch.int64).double() / neurons for kind in on
    )
    per_sentence = (everywhere, 1 - everywhere - specific - silent, specific, silent)
    rates = sentences.double() / pairs
    all_on, one_on, none_on = _poisson_binomial(rates)
    null = (all_on, 1 - all_on - one_on - none_on, one_on, none_on)
    return Sharing(
        shares=_means(per_sentence),
        null=null,
        errors=tuple(float(x.std()) / math.sqrt(pairs) for x in per_sentence),
    )


def _poisson_binomial(rates: Tensor) -> tuple[float, float, float]:
    """The mean over neurons of P(all K), P(exactly one) and P(none) from rates [languages, D]."""
    none, one = torch.ones_like(rates[0]), torch.zeros_like(rates[0])
    for rate in rates:
        one = one * (1 - rate) + none * rate
        none = none * (1 - rate)
    return float(rates.prod(dim=0).mean()), float(one.mean()), float(none.mean())


def _means(columns: Sequence[Tensor]) -> tuple[float, ...]:
    return tuple(float(column.mean()) for column in columns)
