"""``neuronxa taps``: find the feed-forward neurons of a model without a corpus."""

import torch
from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.forward import Forward, text_config
from neuronxa_callback.probe.model_state import preserve_model_state
from neuronxa_callback.taps.plan import TapPlan, discover

TOKENS = 6
DEFAULT_VOCABULARY = 100


def discover_taps(model: nn.Module, neuron_modules: str | None, stack: str) -> TapPlan:
    """Find the neurons of a model with one forward pass of arbitrary tokens.

    Args:
        model: A model of transformers, also one on the meta device.
        neuron_modules: A regex for the paths of the down projections; None to infer them.
        stack: ``encoder``, ``decoder`` or ``both``.

    Raises:
        TapError: If the neurons cannot be found or read.
    """
    forward = Forward(model, stack, hidden=False)
    vocabulary = int(getattr(text_config(model), "vocab_size", None) or DEFAULT_VOCABULARY)
    # The middle of the vocabulary: its ends often hold special tokens such as padding and images.
    ids = torch.arange(TOKENS, device="cpu")[None] + vocabulary // 2
    mask = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch(ids, mask, ~mask)
    with preserve_model_state(model):
        try:
            forward.choose(batch)
            return discover(
                model, lambda: forward(batch), neuron_modules=neuron_modules, stack=stack
            )
        except (RuntimeError, NotImplementedError) as cause:
            if not any(parameter.is_meta for parameter in model.parameters()):
                raise
            raise TapError(
                f"{type(model).__name__} cannot run on the meta device; omit --empty"
            ) from cause
