"""Compares gate and product of every feed-forward network of a model with the oracle.

python -m tests.helpers.ffn.survey        writes docs/architectures.csv
"""

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps import FFNPart, TapPlan, discover
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, run
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
    plan = options.pop("plan", None) or discover(
        model, lambda: run(model, tokens[:1, : TOKENS - 2]), stack="both", **options
    )
    with Oracle(model) as oracle:
        _, states = read(model, plan=plan, tokens=tokens)
    examination = Examination(name, plan.parts)
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


def summary(examination: Examination) -> list[tuple[str, ...]]:
    """(count, modules, kind, how) per kind of network; numbers in paths are replaced by stars."""
    rows: Counter[tuple[str, ...]] = Counter()
    for part in examination.parts:
        how = re.sub(r"(?<=\.)\d+(?=[.;,]|$)", "*", f"{part.path}; {part.how}")
        path, _, words = how.partition("; ")
        rows[path, part.kind, words] += 1
    return [(str(count), *row) for row, count in rows.items()]


NO_NETWORK = ("mamba/causal", "mamba2/causal", "falcon_mamba/causal")
NOT_BUILT = {
    "gemma3n/causal": "its vision tower needs timm; gemma3n_text, the same decoder, is here",
    "gemma4_assistant/causal": "a draft head that shares the cache of its target model",
    "gemma4_unified_assistant/causal": "a draft head that shares the cache of its target model",
    "nemo_speechlm/seq2seq": "speech only: its parts check each other's sizes",
    "voxtral_realtime/seq2seq": "its forward requires audio",
}
"""Models that cannot be built tiny and offline, or do not run on text alone."""


COLUMNS = ("model", "networks", "modules", "kind", "how")


def survey() -> tuple[str, int, dict[str, str], dict[str, list[str]]]:
    """The table ``docs/architectures.csv``, the number of right models, the refused, the wrong."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(COLUMNS)
    right = 0
    refused: dict[str, str] = {}
    wrong: dict[str, list[str]] = {}
    for entry in zoo.ENTRIES.values():
        if entry.name in NOT_BUILT:
            write((entry.name, "", "", "not surveyed", NOT_BUILT[entry.name]))
            continue
        try:
            examination = examine(entry.name, zoo.build(entry), tokens_of(entry.name))
        except TapError as error:
            if entry.name not in NO_NETWORK:
                refused[entry.name] = str(error)
            write((entry.name, "", "", "refused", str(error)))
            continue
        if examination.wrong:
            wrong[entry.name] = examination.wrong
        right += not examination.wrong
        for row in summary(examination):
            write((entry.name, *row))
    return text.getvalue(), right + len(REMOTE), refused, wrong


def tokens_of(name: str) -> Tensor:
    """A microbatch for the model of this name."""
    if name.startswith("musicgen"):
        # MusicGen: codes of 4 codebooks.
        return torch.randint(0, 50, (BATCH, 4, TOKENS), generator=torch.Generator().manual_seed(0))
    return ids(BATCH, TOKENS)


if __name__ == "__main__":
    path = Path(__file__).parents[3] / "docs" / "architectures.csv"
    path.write_text(survey()[0], encoding="utf-8")
