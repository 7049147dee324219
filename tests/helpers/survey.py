"""One model against the oracle: are gate and product of every feed-forward network right?"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.plan import FFNPart, TapPlan, discover
from tests.helpers import zoo
from tests.helpers.families import ids, run
from tests.helpers.ffn_oracle import Oracle, close, routed
from tests.helpers.remote import REMOTE

BATCH, TOKENS = 2, 8
SITES = ("gate", "product")


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
    """Discover on one sentence, read another microbatch: per part, site -> states.

    Raises:
        TapError: If either does.
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


@dataclass
class Verdict:
    """What became of one model."""

    name: str
    parts: tuple[FFNPart, ...] = ()
    wrong: list[str] = field(default_factory=list)
    refused: str = ""
    """The words of the error."""


@torch.no_grad()
def examine(name: str, model: nn.Module, tokens: Tensor, **options: Any) -> Verdict:
    """All states of ``model`` against the oracle's; also what is missing or is no such network.

    ``options`` are those of ``read``: another plan, an override.
    """
    with Oracle(model) as oracle:
        plan, states = read(model, tokens=tokens, stack="both", **options)
    verdict = Verdict(name, plan.parts)
    # The first of the two passes was discovery's, with one sentence.
    expected = _expected(oracle, plan, tokens)
    for part, (neurons, found) in enumerate(zip(plan.parts, states, strict=True)):
        if part not in expected:
            verdict.wrong.append(f"{neurons.path} is no feed-forward network")
            continue
        for site, wanted in zip(SITES, expected[part], strict=True):
            if not close(found[site], wanted):
                verdict.wrong.append(f"{site} of {neurons.path} (layer {neurons.layer})")
    have = {neurons.path for neurons in plan.parts}
    every = {*oracle.down_projections(), *oracle.experts, *oracle.retrieved()}
    verdict.wrong += [f"{path} is missing" for path in sorted(every - have)]
    return verdict


def _expected(oracle: Oracle, plan: TapPlan, tokens: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
    dense = oracle.states()
    seen: Counter[str] = Counter()
    total = Counter(part.path for part in plan.parts)
    expected = {}
    for number, part in enumerate(plan.parts):
        path, index = part.path, seen[part.path]
        seen[path] += 1
        if path in oracle.experts:
            calls = oracle.experts[path][-total[path] :]
            gate, product, experts = routed(oracle.modules[path], *calls[index])
            if experts == part.experts:
                expected[number] = (gate, product)
        elif path in dense:
            calls = [_ordered(call, tokens) for call in dense[path]]
            expected[number] = _whole(calls, tokens)[-total[path] :][index]
    return expected


def _whole(calls: list[tuple[Tensor, Tensor]], tokens: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Calls on all tokens; chunks of tokens put together."""
    rows = tokens.shape[0] * tokens.shape[-1]
    whole, waiting = [], []
    for call in calls:
        waiting.append(call)
        if sum(each[0].shape[0] * each[0].shape[1] for each in waiting) == rows:
            whole.append(
                tuple(torch.cat([c[k] for c in waiting], dim=1).flatten(0, 1) for k in (0, 1))
            )
            waiting = []
        elif call[0].shape[0] != tokens.shape[0]:
            waiting = []
    return whole


def _ordered(call: tuple[Tensor, Tensor], tokens: Tensor) -> tuple[Tensor, Tensor]:
    return tuple(_batch_first(each, tokens) for each in call)  # type: ignore[return-value]


def _batch_first(states: Tensor, tokens: Tensor) -> Tensor:
    batch, length = tokens.shape[0], tokens.shape[-1]
    if states.ndim == 2:
        count = batch if states.shape[0] == batch * length else 1
        return states.reshape(count, -1, states.shape[-1])
    if states.shape[:2] == (length, batch):
        return states.transpose(0, 1)
    if states.shape[1] > length:
        # CPM-Ant puts 32 prompts in front, the others pad behind.
        front = 32 if states.shape[1] == length + 32 else 0
        return states[:, front : front + length]
    return states


def summary(verdict: Verdict) -> list[str]:
    """One line per kind of place, numbers replaced by stars."""
    lines: Counter[str] = Counter()
    for part in verdict.parts:
        how = re.sub(r"(?<=\.)\d+(?=[.;,]|$)", "*", f"{part.path}; {part.how}")
        path, _, words = how.partition("; ")
        lines[f"`{path}` {part.kind}: {words}"] += 1
    return [f"{count} x {line}" for line, count in lines.items()]


NO_NETWORK = ("mamba/causal", "mamba2/causal", "falcon_mamba/causal")
NOT_BUILT = {
    "gemma3n/causal": "its vision tower needs timm; gemma3n_text, the same decoder, is here",
    "gemma4_assistant/causal": "a draft head that shares the cache of its target model",
    "gemma4_unified_assistant/causal": "a draft head that shares the cache of its target model",
    "nemo_speechlm/seq2seq": "speech only: its parts check each other's sizes",
    "voxtral_realtime/seq2seq": "its forward requires audio",
}
"""Entries that cannot be built tiny, offline and run on text alone."""


def table() -> tuple[str, int, dict[str, str], dict[str, list[str]]]:
    """The page ``docs/architectures.md``, how many are right, who is refused, who is wrong."""
    rows, right = [], 0
    refused: dict[str, str] = {}
    wrong: dict[str, list[str]] = {}
    for entry in [*zoo.entries(), *zoo.variants()]:
        if entry.name in NOT_BUILT:
            rows.append((entry.name, f"not surveyed: {NOT_BUILT[entry.name]}"))
            continue
        try:
            verdict = examine(entry.name, zoo.build(entry), _tokens(entry.name))
        except TapError as error:
            if entry.name not in NO_NETWORK:
                refused[entry.name] = str(error)
            rows.append((entry.name, f"refused: {error}"))
            continue
        if verdict.wrong:
            wrong[entry.name] = verdict.wrong
        right += not verdict.wrong
        rows.append((entry.name, "<br>".join(summary(verdict))))
    right += len(REMOTE)
    return _page(rows, right, refused), right, refused, wrong


def _tokens(name: str) -> Tensor:
    if name.startswith("musicgen"):
        # Codes of 4 codebooks.
        return torch.randint(0, 50, (BATCH, 4, TOKENS), generator=torch.Generator().manual_seed(0))
    return ids(BATCH, TOKENS)


def _page(rows: list[tuple[str, str]], right: int, refused: dict[str, str]) -> str:
    head = rf"""# Architectures

Written by `python tests/survey.py`, checked by `make test-all`: every causal, masked and seq2seq
language model of transformers {transformers.__version__} that can be built tiny and offline, and
variants of some. Gate and product of every feed-forward network were compared with states computed
from the weights: right for {right} models ({len(REMOTE)} of them imitations of remote code in
`tests/remote.py`), refused by name for {len(refused)}, wrong for none. Three models have no such
network. Capacity-limited routers (Switch, NLLB-MoE) choose experts by what else is in the batch,
and Doge's router mixes the scores of its tokens: their states depend on the batch. Doge's experts
are rows of a table, one neuron each, and refused; its shared ones can be named with
`neuron_modules=r"mlp\.down_proj$"`, and depend on the batch from the second layer on.

`*` stands for a number. "the same": the network has no gate, so that gate and product are one.

| model | what is read, and how |
|---|---|
"""
    return head + "".join(f"| {name} | {text} |\n" for name, text in rows)


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "docs" / "architectures.md"
    path.write_text(table()[0], encoding="utf-8")
