"""Bits per sentence and per character of both sides of every language.

A decoder predicts each sentence by itself; an encoder-decoder predicts each side from the other
one, which is translation. Tokens that the tokenizer adds are not counted, and neither is the first
token of a sentence that has nothing in front of it (no BOS): a decoder does not predict it.

The forwards are extra ones, after those of the scores, in microbatches whose logits fit
``LOGIT_BYTES``; their composition is the same for any number of ranks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.metrics import alignment
from neuronxa_callback.probe.batching import Batch, Sentence, TokenizedCorpus, collate, cut
from neuronxa_callback.probe.diagnostics import rounded
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.executor import ProbeContext
from neuronxa_callback.probe.loss.logits import LogitsForward, nats_of, require_causal

LOGIT_BYTES = 2**30
"""The most memory that the logits of a forward take, two copies of them; a single sentence may
take more."""
ROWS = 64
"""Tokens whose logits are turned into fp32 at a time."""
IGNORED = -100
"""The label of padding."""


@dataclass(frozen=True)
class Prediction:
    """One sentence that the model predicts, and what it gets as its input."""

    sentence: Sentence
    given: Sentence | None = None
    """The other side, for an encoder-decoder."""

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.sentence.ids), len(self.given.ids) if self.given else 0)

    @property
    def counted(self) -> tuple[bool, ...]:
        """Which tokens count: not those that the tokenizer adds."""
        return tuple(not special for special in self.sentence.special)


def loss(
    context: ProbeContext, tokenized: TokenizedCorpus, names: Sequence[str], batch_tokens: int
) -> dict[str, Any]:
    """The entry ``"loss"`` of a report's diagnostics; empty unless ``names`` has it. Collective.

    Args:
        context: How the model is called, and the ranks.
        tokenized: The sentences.
        names: The requested diagnostics.
        batch_tokens: The most tokens of a forward.

    Raises:
        ConfigError: If the model does not predict the tokens of a sentence.
    """
    if "loss" not in names:
        return {}
    forward = LogitsForward(context.forward)
    works = _predictions(tokenized, forward.two_stacks)
    unique = tuple(dict.fromkeys(each for rows in works.values() for each in rows))
    most = min(batch_tokens, _tokens_within_budget(forward, context.dummy))
    batches = cut([each.length for each in unique], most)
    nats = _run(forward, unique, batches, context)
    bits = dict(zip(unique, (nats / math.log(2)).tolist(), strict=True))
    return {"loss": _entry(tokenized, works, bits)}


def _predictions(
    tokenized: TokenizedCorpus, translates: bool
) -> dict[tuple[str, str], list[Prediction]]:
    """(language, side) -> the predictions of its pairs."""
    works: dict[tuple[str, str], list[Prediction]] = {}
    for language in tokenized.pairs:
        for pivot, target in tokenized.pair_tokens(language):
            for side, own, other in (("pivot", pivot, target), ("target", target, pivot)):
                given = other if translates else None
                works.setdefault((language, side), []).append(Prediction(own, given))
    return works


def _tokens_within_budget(forward: LogitsForward, example: Batch) -> int:
    """The most tokens whose logits fit ``LOGIT_BYTES``, by the logits of a short sentence."""
    if forward.two_stacks:
        logits = forward.logits(example, example.ids)
    else:
        logits = require_causal(forward, example)
    return max(1, LOGIT_BYTES // (2 * logits.shape[-1] * 4))


def _run(
    forward: LogitsForward,
    predictions: Sequence[Prediction],
    batches: Sequence[Sequence[int]],
    context: ProbeContext,
) -> Tensor:
    """Nats of every prediction, equal on all ranks; each is computed by one of them."""
    world: World = context.world
    dtype = alignment.product_dtype(context.device)
    nats = torch.zeros(len(predictions), dtype=dtype, device=context.device)
    for first in range(0, len(batches), world.size):
        own = batches[first + world.rank] if first + world.rank < len(batches) else None
        if own is None:
            labels = context.dummy.ids if forward.two_stacks else None
            forward.logits(context.dummy, labels)
            continue
        found = _nats(forward, [predictions[k] for k in own], context.pad)
        nats[list(own)] = found.to(nats)
    world.sum_over_data_ranks(nats)
    return nats.cpu()


def _nats(forward: LogitsForward, predictions: Sequence[Prediction], pad: int) -> Tensor:
    """Nats [predictions] of one microbatch."""
    outputs = collate([each.sentence for each in predictions], pad)
    targets, shift = outputs.ids, 0
    if forward.two_stacks:
        inputs = collate([each.given or each.sentence for each in predictions], pad)
        logits = forward.logits(inputs, outputs.ids.masked_fill(~outputs.mask, IGNORED))
    else:
        logits, shift = forward.logits(outputs), 1
    found = []
    for row, each in enumerate(predictions):
        length = len(each.sentence.ids)
        counted = torch.tensor(each.counted[shift:])
        own = logits[row, : length - shift]
        found.append(nats_of(own, targets[row, shift:length], counted, ROWS))
    return torch.stack(found)


def _entry(
    tokenized: TokenizedCorpus,
    works: Mapping[tuple[str, str], Sequence[Prediction]],
    bits: Mapping[Prediction, float],
) -> dict[str, Any]:
    """Language -> side -> bits per sentence and per character."""
    languages: dict[str, Any] = {}
    for (language, side), rows in works.items():
        column = 0 if side == "pivot" else 1
        characters = sum(len(pair[column]) for pair in tokenized.pairs[language])
        total = math.fsum(bits[each] for each in rows)
        languages.setdefault(language, {})[side] = {
            "per_sentence": rounded(total / len(rows)),
            "per_character": rounded(total / characters),
        }
    return {"languages": languages}
