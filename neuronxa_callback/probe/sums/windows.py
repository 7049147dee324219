"""The similarity sums of a window of languages, from those of its microbatches."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PartialSimilarity:
    """What one microbatch adds to the similarity matrices of its window."""

    rows: tuple[int, ...]
    """Which sentences of the window these are."""
    dot: Mapping[str, Tensor]
    """metric -> [layers, sentences, batch]."""
    squares: Mapping[str, Tensor]
    """metric -> [layers, batch]."""
    statistics: Mapping[str, Tensor]
    """``"shares"``, of the largest token in NAV, and ``"activity"``, of active states, if computed:
    each [layers, batch] in [0, 1]."""


class WindowSums:
    """What a rank has computed of a window; zero in the sentences that other ranks run.

    Args:
        sentences: The number of sentences of the window.
    """

    def __init__(self, sentences: int) -> None:
        self.sentences = sentences
        self.filled: set[int] = set()
        """The sentences that this rank has run."""
        self.dot: dict[str, Tensor] = {}
        """metric -> [layers, sentences of the pivot, sentences]."""
        self.squares: dict[str, Tensor] = {}
        """metric -> [layers, sentences]."""
        self.statistics: dict[str, Tensor] = {}
        """``"shares"`` or ``"activity"`` -> [layers, sentences]."""

    def add(self, part: PartialSimilarity) -> None:
        """Puts the sums of one microbatch in their places."""
        self.filled.update(part.rows)
        index: Tensor | None = None
        for whole, parts in (
            (self.dot, part.dot),
            (self.squares, part.squares),
            (self.statistics, part.statistics),
        ):
            for name, values in parts.items():
                if name not in whole:
                    whole[name] = values.new_zeros(*values.shape[:-1], self.sentences)
                if index is None:
                    index = torch.tensor(part.rows, dtype=torch.long, device=values.device)
                whole[name][..., index] = values
