"""Compares gate and product of every feed-forward network of a model with the oracle.

python -m tests.helpers.ffn.survey        writes docs/architectures.md
"""

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import FFNPart, TapPlan
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids
from tests.helpers.ffn import zoo
from tests.helpers.ffn.expert_oracle import routed
from tests.helpers.ffn.formulas import close
from tests.helpers.ffn.oracle import Oracle
from tests.helpers.ffn.reading import BATCH, TOKENS, read
from tests.helpers.ffn.remote import REMOTE


@dataclass
class Examination:
    """The result of comparing one model with the oracle."""

    name: str
    parts: tuple[FFNPart, ...] = ()
    wrong: list[str] = field(default_factory=list)


@torch.no_grad()
def examine(name: str, model: nn.Module, tokens: Tensor, **options: Any) -> Examination:
    """Compares all states of ``model``, and lists missing and superfluous networks.

    ``options`` are those of ``read``: another plan, an override.
    """
    with Oracle(model) as oracle:
        plan, states = read(model, tokens=tokens, stack="both", **options)
    examination = Examination(name, plan.parts)
    # The first of the two passes was that of discovery, with one sentence.
    expected = _expected(oracle, plan, tokens)
    for part, (neurons, found) in enumerate(zip(plan.parts, states, strict=True)):
        if part not in expected:
            examination.wrong.append(f"{neurons.path} is not a feed-forward network")
            continue
        for site, wanted in zip(SITES, expected[part], strict=True):
            if not close(found[site], wanted):
                examination.wrong.append(f"{site} of {neurons.path} (layer {neurons.layer})")
    have = {neurons.path for neurons in plan.parts}
    every = {*oracle.down_projections(), *oracle.experts, *oracle.retrieved()}
    examination.wrong += [f"{path} is missing" for path in sorted(every - have)]
    return examination


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
    """Calls on all tokens; chunks of tokens are concatenated."""
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
        # CPM-Ant inserts 32 prompts in front; other models pad at the end.
        front = 32 if states.shape[1] == length + 32 else 0
        return states[:, front : front + length]
    return states


def summary(examination: Examination) -> list[str]:
    """One line per kind of network; numbers in paths are replaced by stars."""
    lines: Counter[str] = Counter()
    for part in examination.parts:
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
"""Models that cannot be built tiny and offline, or do not run on text alone."""


def table() -> tuple[str, int, dict[str, str], dict[str, list[str]]]:
    """The page ``docs/architectures.md``, the number of right models, the refused, the wrong."""
    rows, right = [], 0
    refused: dict[str, str] = {}
    wrong: dict[str, list[str]] = {}
    for entry in zoo.ENTRIES.values():
        if entry.name in NOT_BUILT:
            rows.append((entry.name, f"not surveyed: {NOT_BUILT[entry.name]}"))
            continue
        try:
            examination = examine(entry.name, zoo.build(entry), tokens_of(entry.name))
        except TapError as error:
            if entry.name not in NO_NETWORK:
                refused[entry.name] = str(error)
            rows.append((entry.name, f"refused: {error}"))
            continue
        if examination.wrong:
            wrong[entry.name] = examination.wrong
        right += not examination.wrong
        rows.append((entry.name, "<br>".join(summary(examination))))
    right += len(REMOTE)
    return _page(rows, right, refused), right, refused, wrong


def tokens_of(name: str) -> Tensor:
    """A microbatch for the model of this name."""
    if name.startswith("musicgen"):
        # MusicGen: codes of 4 codebooks.
        return torch.randint(0, 50, (BATCH, 4, TOKENS), generator=torch.Generator().manual_seed(0))
    return ids(BATCH, TOKENS)


def _page(rows: list[tuple[str, str]], right: int, refused: dict[str, str]) -> str:
    head = rf"""# Architectures

Written by `python -m tests.helpers.ffn.survey` and checked by `make test-all`. The survey covers
every causal, masked and seq2seq language model of transformers {transformers.__version__} that can
be built tiny and offline, and some variants. It compares gate and product of every feed-forward
network with states computed from the weights: {right} models are right ({len(REMOTE)} of them are
imitations of remote code in `tests/helpers/ffn/remote.py`), {len(refused)} are refused by name,
none is wrong. Three models have no feed-forward network.

In some models the states depend on the other sentences of the batch: capacity-limited routers
(Switch, NLLB-MoE) choose experts by the whole batch, and Doge's router mixes the scores of its
tokens. Doge's experts are rows of a table, one neuron each, and are refused; its shared experts can
be named with `neuron_modules=r"mlp\.down_proj$"` and depend on the batch from the second layer on.

`*` replaces a number. "gate: the same": the network has no gate, so gate and product are equal.

| model | modules and how they are read |
|---|---|
"""
    return head + "".join(f"| {name} | {text} |\n" for name, text in rows)


if __name__ == "__main__":
    path = Path(__file__).parents[3] / "docs" / "architectures.md"
    path.write_text(table()[0], encoding="utf-8")
