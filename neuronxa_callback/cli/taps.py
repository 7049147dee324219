"""The neurons of a model that nobody has given a sentence yet."""

from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from neuronxa_callback.cli import load_model
from neuronxa_callback.errors import TapError
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.forward import Forward, text_config
from neuronxa_callback.probe.model_state import preserve_model_state
from neuronxa_callback.taps.plan import TapPlan, discover

TOKENS = 6


def found(model: nn.Module, neuron_modules: str | None, stack: str) -> TapPlan:
    """Where the neurons are, found with tokens of no meaning.

    Raises:
        TapError: If they cannot be found or read.
    """
    forward = Forward(model, stack, hidden=False)
    vocabulary = int(getattr(text_config(model), "vocab_size", None) or 100)
    # From the middle: the first and last numbers often stand for images, padding and the like.
    ids = torch.arange(TOKENS)[None] + vocabulary // 2
    counts = torch.ones_like(ids, dtype=torch.bool)
    batch = Batch(ids, counts, ~counts)
    with preserve_model_state(model):
        try:
            return discover(
                model, lambda: forward(batch), neuron_modules=neuron_modules, stack=stack
            )
        except (RuntimeError, NotImplementedError) as cause:
            if not any(each.is_meta for each in model.parameters()):
                raise
            raise TapError(
                f"a model without weights must run on nothing, {type(model).__name__} does not;"
                " leave --empty away"
            ) from cause


def build_on_meta(name: str, how: load_model.LoadOptions) -> nn.Module:
    """A model of no weights, from its configuration alone."""
    with load_model.as_config_error(name):
        config: Any = AutoConfig.from_pretrained(
            name, revision=how.revision, trust_remote_code=how.trust
        )
        made: Any = load_model.class_of(config, how.trust)
        with torch.device("meta"):
            build = made._from_config if hasattr(made, "_from_config") else AutoModel.from_config
            # Eager: other kinds of attention look into the mask, and there is nothing in it.
            model: nn.Module = build(config, attn_implementation="eager")
    return model.eval()
