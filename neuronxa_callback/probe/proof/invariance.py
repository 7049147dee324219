"""Whether the states of a sentence depend on padding, its place, or the sentences beside it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.probe.batching import Batch, Sentence, collate
from neuronxa_callback.taps.plan import FFNPart, TapPlan

MAX_FLIPPED = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 1e-2}
"""Dtype of the states -> largest share of firing bits that may differ."""
MAX_DIFFERENCE = {
    torch.float64: 1e-9,
    torch.float32: 1e-5,
    torch.bfloat16: 5e-2,
    torch.float16: 1e-2,
}
"""Dtype of the states -> largest relative difference of pooled values."""
TF32_DIFFERENCE = 1e-2
"""The same for float32 if products may run in TF32."""

Key = tuple[int, int, str]
"""A sentence, a part of the plan, a site."""


@dataclass
class Deviation:
    """The largest differences of a sentence's states between two forwards."""

    flipped: float = 0.0
    """Share of firing bits that differ, in the layer with the most."""
    values: float = 0.0
    """Relative difference of pooled values, in the layer with the largest."""
    allowed: bool = True
    """Whether both are within what the dtype allows."""

    def add(self, flipped: float, values: float, dtype: torch.dtype) -> None:
        """Includes the differences of one layer."""
        self.flipped, self.values = max(self.flipped, flipped), max(self.values, values)
        bits, size = MAX_FLIPPED.get(dtype, 1e-2), MAX_DIFFERENCE.get(dtype, 5e-2)
        if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32:
            size = TF32_DIFFERENCE
        # "not <=" instead of ">", so that NaN counts as a difference.
        if not (flipped <= bits and values <= size):
            self.allowed = False


@dataclass
class SentenceStates:
    """A sink that keeps the states of some sentences of one forward."""

    parts: Sequence[FFNPart]
    rows: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Row of the batch -> (sentence, its number of tokens)."""
    tokens: int = 0
    """Padded tokens of the batch."""
    states: dict[Key, Tensor] = field(default_factory=dict)
    """[tokens of the sentence, width]."""

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """Keeps the rows of the sentences."""
        for row, (sentence, length) in self.rows.items():
            kept = self._of(sentence, length, part, site, states)
            stop = min(start + states.shape[1], length)
            if stop > start:
                kept[start:stop] = states[row, : stop - start]

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """Keeps the routed rows of the sentences; all others are 0."""
        for row, (sentence, length) in self.rows.items():
            kept = self._of(sentence, length, part, site, states)
            own = (token >= row * self.tokens) & (token < row * self.tokens + length)
            by_expert = kept.view(length, -1, states.shape[1])
            by_expert[token[own] - row * self.tokens, expert[own]] = states[own]

    def _of(self, sentence: int, length: int, part: int, site: str, states: Tensor) -> Tensor:
        key = (sentence, part, site)
        if key not in self.states:
            experts = self.parts[part].experts
            width = states.shape[-1] * max(experts, 1)
            self.states[key] = states.new_zeros(length, width)
        return self.states[key]


class Invariance:
    """Compares sentences that ran alone with the same sentences beside others.

    Args:
        plan: The taps to read.
        model: The model.
        sites: The sites that the probe reads.
        sentences: The sentences to compare.
        forward: Runs a microbatch.
        pad: Token id of padding.
    """

    def __init__(
        self,
        plan: TapPlan,
        model: nn.Module,
        sites: Sequence[str],
        sentences: Sequence[Sentence],
        forward: Callable[[Batch], object],
        pad: int,
    ) -> None:
        self.plan, self.model, self.sites, self.sentences = plan, model, sites, sentences
        self.forward, self.pad = forward, pad
        self.alone: dict[Key, Tensor] = {}
        self.beside, self.again = Deviation(), Deviation()

    def read_alone(self, number: int) -> None:
        """Runs one sentence by itself and keeps its states."""
        self.alone |= self._read([number])

    def read_beside(self, order: Sequence[int]) -> None:
        """Runs sentences together and compares each with its states alone."""
        self._compare(self._read(order), self.beside)

    def read_again(self, number: int) -> None:
        """Runs a sentence by itself once more and compares the states."""
        self._compare(self._read([number]), self.again)

    def check_axes(self) -> None:
        """Refuses a model that takes sentences for tokens: sentences mix, and tokens do not.

        Raises:
            TapError: Shows a function that swaps the axes.
        """
        first, *rest = self.sentences[0].ids
        other = next((token for token in self.sentences[1].ids if token != first), None)
        if self.beside.allowed or not rest or other is None:
            return
        if not self.sees_other_tokens(0, other):
            raise TapError(
                "the tokens of a sentence must reach each other, but the states of the last do not"
                " change with the first, while those of other sentences in the microbatch do; if"
                " the model wants token ids as [tokens, sentences], give forward=, such as"
                ' def forward(model, batch): return model(batch["input_ids"].T)'
            )

    def sees_other_tokens(self, number: int, token: int) -> bool:
        """Whether the last token's states change if the first token becomes another one."""
        sentence = self.sentences[number]
        changed = Sentence((token, *sentence.ids[1:]), sentence.special)
        parts = (self.plan, self.model, self.sites, [changed], self.forward, self.pad)
        states = Invariance(*parts)._read([0])
        return any(
            not torch.equal(one[-1], self.alone[number, part, site][-1])
            for (_, part, site), one in states.items()
            if (number, part, site) in self.alone
        )

    def _read(self, order: Sequence[int]) -> dict[Key, Tensor]:
        batch = collate([self.sentences[number] for number in order], self.pad)
        shape = (batch.ids.shape[0], batch.ids.shape[1])
        rows = {row: (number, len(self.sentences[number].ids)) for row, number in enumerate(order)}
        sink = SentenceStates(self.plan.parts, rows, shape[1])
        with self.plan.attach(self.model, self.sites, sink, lambda: shape) as reader:
            reader.begin()
            self.forward(batch)
            reader.end()
        if reader.error is not None:
            raise reader.error
        return sink.states

    def _compare(self, states: Mapping[Key, Tensor], deviation: Deviation) -> None:
        """Includes the differences from the states alone; one synchronization with the device."""
        pairs = [(self.alone[key], other) for key, other in states.items() if key in self.alone]
        if not pairs:
            return
        found = torch.stack([_difference(one, other) for one, other in pairs]).tolist()
        for (flipped, values), (one, _) in zip(found, pairs, strict=True):
            deviation.add(flipped, values, one.dtype)


def _difference(one: Tensor, other: Tensor) -> Tensor:
    """[2]: share of firing bits that differ, relative difference of the pooled values."""
    # A state that is not a number in both forwards is no difference.
    flipped = (((one > 0) != (other > 0)) | (one.isnan() != other.isnan())).float().mean()
    one, other = one.float().nan_to_num(), other.float().nan_to_num()
    weights = torch.arange(1, one.shape[0] + 1, device=one.device, dtype=torch.float32)
    pooled, others = weights @ one.abs(), weights @ other.abs()
    scale = pooled.norm().clamp(min=torch.finfo(torch.float32).tiny)
    return torch.stack([flipped, (pooled - others).norm() / scale])
