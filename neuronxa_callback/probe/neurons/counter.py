"""Counts at which tokens each neuron fires, in the forward passes of a probe."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics.neurons.counts import FiringCounts, SentenceTokens
from neuronxa_callback.probe.batching import Microbatch, PivotGroup, Sentence
from neuronxa_callback.probe.distributed import World

MOST_BYTES = 16 * 2**30
"""The most bytes of all counts of a rank."""


class FiringCounter:
    """The firing counts of all parts of a model, for one probe.

    Args:
        group: The sentences; all languages have all pivot sentences, in one order.
        widths: The number of neurons of each part.
        device: Where the counts are kept.
        most_bytes: The budget.

    Raises:
        ConfigError: If the counts need more bytes than the budget.
    """

    def __init__(
        self,
        group: PivotGroup,
        widths: Sequence[int],
        device: torch.device,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        languages, pairs = len(group.targets) + 1, len(group.pivot.sentences)
        self.languages = (group.pivot.language, *(side.language for side in group.targets))
        """In the order of the counts."""
        self.device, self.nbytes = device, bytes_of_counts(languages, pairs, sum(widths))
        if self.nbytes > most_bytes:
            raise ConfigError(
                f"the neuron statistics of {languages} languages, {pairs} pairs and {sum(widths)}"
                f" neurons must fit into {most_bytes / 2**30:.3g} GiB, they need"
                f" {self.nbytes / 2**30:.3g} GiB; lower n_pairs, name fewer languages, or leave"
                " overlap, sharing and language_neurons out of the option neurons"
            )
        self.parts = [FiringCounts(languages, pairs, width, device) for width in widths]
        self._sentences = _number_sentences(group)
        self._batch: SentenceTokens | None = None

    def begin(self, work: Microbatch | None) -> None:
        """Prepares for one forward pass; None is a dummy, which is not counted."""
        self._batch = None
        if work is not None:
            numbers = torch.tensor([self._sentences[work.window][row] for row in work.rows])
            self._batch = SentenceTokens(*numbers.to(self.device).unbind(dim=1))

    def add(self, part: int, pooled: Tensor) -> None:
        """Adds the firings [batch, 2, width] of a part: at any token, and at the last one."""
        if self._batch is not None:
            fired, last = pooled.to(self.device).unbind(dim=1)
            self.parts[part].add(fired, last, self._batch)

    def exchange(self, world: World, device: torch.device) -> None:
        """Collective: the sums over all ranks that share the work, exact whole numbers."""
        if world.size == 1:
            return
        for part in self.parts:
            # Tensors on the host are exchanged through the device.
            on_device = [tensor.to(device) for tensor in part.tensors()]
            world.sum_over_data_ranks(*on_device)
            for tensor, total in zip(part.tensors(), on_device, strict=True):
                tensor.copy_(total)

    def layer(self, parts: Sequence[int]) -> FiringCounts | None:
        """The counts of a layer with these parts; None if it holds NaN."""
        own = [self.parts[part] for part in parts]
        return None if any(part.holds_nan() for part in own) else FiringCounts.of_layer(own)


def bytes_of_counts(languages: int, pairs: int, neurons: int) -> int:
    """Bytes of ``FiringCounts`` of so many neurons, in all layers together.

    >>> bytes_of_counts(languages=25, pairs=100, neurons=32 * 14336) / 2**30
    0.68359375
    """
    return (8 * languages + 2 * pairs) * 4 * neurons


def require_countable(groups: Sequence[PivotGroup], world: World) -> PivotGroup:
    """The one group of a corpus whose firings can be counted.

    Raises:
        ConfigError: If languages have pivot sentences of their own, or neurons are in slices.
    """
    if world.tensor is not None:
        raise ConfigError(
            "the neuron statistics overlap, sharing and language_neurons need all neurons of a"
            " layer on every rank, but tensor parallelism cuts them into slices; leave them out of"
            " the option neurons, or score saved checkpoints with `neuronxa sweep`"
        )
    numbers = tuple(range(len(groups[0].pivot.sentences)))
    if len(groups) > 1 or any(rows != numbers for rows in groups[0].rows):
        raise ConfigError(
            "the neuron statistics overlap, sharing and language_neurons need the same pivot"
            " sentences in all languages, but some languages have pivot sentences of their own;"
            " use a corpus with a shared pivot, or leave them out of the option neurons"
        )
    return groups[0]


def _number_sentences(group: PivotGroup) -> dict[int | None, list[tuple[int, int, int]]]:
    """Window (None for the pivot) -> (language, pair, real tokens) of each of its sentences."""
    found: dict[int | None, list[tuple[int, int, int]]] = {
        None: [(0, i, _real_tokens(each)) for i, each in enumerate(group.pivot.sentences)]
    }
    for w, window in enumerate(group.windows):
        found[w] = [
            (target + 1, i, _real_tokens(sentence))
            for target, rows in window.rows.items()
            for i, sentence in enumerate(window.sentences[rows])
        ]
    return found


def _real_tokens(sentence: Sentence) -> int:
    return sum(not special for special in sentence.special)
