"""Reads all neuron states of a model: discovery on one microbatch, then a sink for another."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.taps import TapPlan, discover
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, run

BATCH, TOKENS = 2, 8


class Collect:
    """A sink that keeps everything: per part and site [batch * tokens, width]."""

    def __init__(self, plan: TapPlan, batch: int = BATCH, tokens: int = TOKENS) -> None:
        self.plan, self.batch, self.tokens = plan, batch, tokens
        self.dense_: dict[tuple[int, str], list[tuple[int, Tensor]]] = {}
        self.routed_: dict[tuple[int, str], list[tuple[Tensor, Tensor, Tensor]]] = {}
        self.lasts: Counter[tuple[int, str]] = Counter()

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        self.dense_.setdefault((part, site), []).append((start, states.detach().clone()))

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        kept = (states.detach().clone(), token.clone(), expert.clone())
        self.routed_.setdefault((part, site), []).append(kept)
        self.lasts[part, site] += last

    def states(self, part: int, site: str) -> Tensor:
        neurons = self.plan.parts[part]
        if not neurons.experts:
            chunks = self.dense_[part, site]
            whole = torch.full((self.batch, self.tokens, neurons.width), torch.nan)
            for start, states in chunks:
                whole[:, start : start + states.shape[1]] = states.float()
            return whole.flatten(0, 1)
        assert self.lasts[part, site] == 1
        whole = torch.zeros(
            self.batch * self.tokens, neurons.experts, neurons.width // neurons.experts
        )
        for states, token, expert in self.routed_[part, site]:
            whole[token, expert] += states.float()
        return whole.flatten(1)


Call = Callable[[Tensor], Any]


def read(
    model: nn.Module,
    call: Call | None = None,
    *,
    plan: TapPlan | None = None,
    tokens: Tensor | None = None,
    sites: Sequence[str] = SITES,
    **options: Any,
) -> tuple[TapPlan, list[dict[str, Tensor]]]:
    """Runs discovery on one sentence and reads another microbatch: per part, site -> states.

    Raises:
        TapError: If discovery or reading fails.
    """
    call = call or (lambda each: run(model, each))
    tokens = ids(BATCH, TOKENS) if tokens is None else tokens
    plan = plan or discover(model, lambda: call(tokens[:1, : TOKENS - 2]), **options)
    shape = (tokens.shape[0], tokens.shape[-1])
    sink = Collect(plan, *shape)
    with torch.no_grad(), plan.attach(model, sites, sink, lambda: shape) as reader:
        reader.begin()
        call(tokens)
        reader.end()
    if reader.error is not None:
        raise reader.error
    return plan, [{s: sink.states(k, s) for s in sites} for k in range(len(plan.parts))]
