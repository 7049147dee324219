"""The logits of every token, and the proof that they predict the next one."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.forward import Forward

SAME = 1e-3
"""The largest change of a logit, relative to the spread of the logits, that is none."""


class LogitsForward(Forward):
    """Calls a model whole for the logits of every token.

    An encoder-decoder gets the labels as such, so that it shifts them by its own rule.

    Args:
        forward: How the probe calls the model.

    Raises:
        ConfigError: If the model has two stacks but takes no labels.
    """

    def __init__(self, forward: Forward) -> None:
        super().__init__(forward.model, forward.stack, False, forward.together, forward.function)
        self.forms = forward.forms
        self.labels: Tensor | None = None
        if self.two_stacks and (self.function is not None or "labels" not in self.parameters):
            raise self.not_usable("takes no labels")

    def logits(self, batch: Batch, labels: Tensor | None = None) -> Tensor:
        """Logits [batch, tokens, vocabulary]: of the labels, or of the tokens after each token.

        Args:
            batch: The input.
            labels: For an encoder-decoder, token ids [batch, tokens], -100 at padding.

        Raises:
            ConfigError: If the model returns no logits of every token and of the whole vocabulary.
        """
        self.labels = None if labels is None else labels.to(self.device)
        output = self._call(batch, self.forms[0])
        logits = _logits_of(output)
        expected = (batch.ids if labels is None else labels).shape
        largest = int((batch.ids if labels is None else labels).max())
        if logits is None or logits.shape[:2] != expected or logits.shape[2] <= largest:
            shape = "no logits" if logits is None else f"logits {[*logits.shape]}"
            wanted = f"[{expected[0]}, {expected[1]}, vocabulary]"
            raise self.not_usable(f"returns {shape} where {wanted} were expected")
        return logits

    def not_usable(self, reason: str) -> ConfigError:
        """The error for a model that has no loss of a sentence."""
        return ConfigError(
            "the diagnostic 'loss' needs a model that predicts the tokens of a sentence, but"
            f" {type(self.base).__name__} {reason}; leave 'loss' out of diagnostics"
        )

    def _options(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        options = super()._options(ids, mask)
        return {
            name: value for name, value in options.items() if not name.endswith("logits_to_keep")
        }

    def _decoder_arguments(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        assert self.labels is not None
        return {"labels": self.labels}


def require_causal(forward: LogitsForward, batch: Batch) -> Tensor:
    """Checks that no logit depends on a later token: another last token, the same logits before.

    Args:
        forward: A model without a second stack.
        batch: One sentence of at least two tokens.

    Returns:
        The logits of the sentence.

    Raises:
        ConfigError: If a logit changes, as in an encoder.
    """
    other = batch.ids.clone()
    other[:, -1] = batch.ids[:, 0] if batch.ids[0, 0] != batch.ids[0, -1] else batch.ids[0, -1] ^ 1
    one, two = (
        forward.logits(Batch(ids, batch.mask, batch.special)).float() for ids in (batch.ids, other)
    )
    change = (one - two)[:, :-1].abs().max()
    if bool(change > SAME * one.std()):
        raise forward.not_usable("predicts a token with knowledge of later ones, as an encoder")
    return one


def _logits_of(output: Any) -> Tensor | None:
    """The logits in what a model returns: a field of that name, or the first tensor."""
    if isinstance(output, Mapping):
        found = output.get("logits")
    elif hasattr(output, "logits"):
        found = output.logits
    else:
        candidates = output if isinstance(output, tuple | list) else (output,)
        found = next((each for each in candidates if isinstance(each, Tensor)), None)
    return found if isinstance(found, Tensor) and found.ndim == 3 else None


def nats_of(logits: Tensor, targets: Tensor, counted: Tensor, rows: int) -> Tensor:
    """The sum of -log p of the counted targets of one sentence, in fp32.

    Args:
        logits: Logits [tokens, vocabulary].
        targets: Token ids [tokens].
        counted: bool [tokens].
        rows: How many tokens are turned into fp32 at a time.
    """
    counted = counted.to(logits.device)
    logits, targets = logits[counted], targets.to(logits.device)[counted]
    total = torch.zeros((), dtype=torch.float32, device=logits.device)
    for first in range(0, len(targets), rows):
        part = slice(first, first + rows)
        log_p = logits[part].float().log_softmax(dim=-1)
        total -= log_p.gather(1, targets[part, None]).sum()
    return total
