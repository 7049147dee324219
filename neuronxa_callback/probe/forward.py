"""How a model is called: whole, without cache, with the fewest logits that it allows."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.probe.batching import Batch


class Forward:
    """Calls a model of transformers with a microbatch.

    The object that training holds is called, never a part of it: sharded models gather their
    weights, and autocast is applied, in its own forward.
    """

    def __init__(self, model: nn.Module, stack: str, hidden: bool) -> None:
        self.model, self.stack, self.hidden = model, stack, hidden
        base = base_of(model)
        self.known = _parameters(base)
        self.config = getattr(base, "config", None)
        self.two_stacks = bool(getattr(self.config, "is_encoder_decoder", False))
        self.device = device_of(model)

    def __call__(self, batch: Batch) -> Sequence[Tensor]:
        """Runs [batch, tokens]; the hidden states as transformers returns them, if wanted."""
        output = self.model(**self._arguments(batch))
        if not self.hidden:
            return ()
        prefix = f"{self.stack}_" if self.two_stacks else ""
        return tuple(output[f"{prefix}hidden_states"])

    def _arguments(self, batch: Batch) -> dict[str, Any]:
        ids = batch.ids.to(self.device)
        counts = batch.counts.to(self.device)
        wanted: dict[str, Any] = {
            "attention_mask": counts.long(),
            "use_cache": False,
            "return_dict": True,
            "output_hidden_states": self.hidden or None,
            "logits_to_keep": 1,
            "num_logits_to_keep": 1,
        }
        given = {
            name: value
            for name, value in wanted.items()
            if value is not None and (name in self.known or name in _ALWAYS)
        }
        if self.two_stacks:
            given |= self._decoder(ids, counts)
        return {"input_ids": ids, **given}

    def _decoder(self, ids: Tensor, counts: Tensor) -> dict[str, Tensor]:
        """The sentence itself where the decoder is measured, else one start token."""
        if self.stack != "encoder":
            return {"decoder_input_ids": ids, "decoder_attention_mask": counts.long()}
        start = getattr(self.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(self.config, "pad_token_id", None) or 0
        return {"decoder_input_ids": torch.full_like(ids[:, :1], start)}


_ALWAYS = ("return_dict", "output_hidden_states", "attention_mask")


def base_of(model: nn.Module) -> nn.Module:
    """The model of transformers inside of wrappers and adapters."""
    for name in ("module", "_orig_mod", "_fsdp_wrapped_module"):
        inner = model._modules.get(name)
        if isinstance(inner, nn.Module):
            return base_of(inner)
    get = getattr(model, "get_base_model", None)
    found = get() if callable(get) else model
    return found if isinstance(found, nn.Module) else model


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part."""
    config = getattr(base_of(model), "config", None)
    get = getattr(config, "get_text_config", None)
    return get() if callable(get) else config


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    # The forward of the class: an instance's may be patched with (*args, **kwargs).
    return inspect.signature(type(model).forward).parameters


def device_of(model: nn.Module) -> torch.device:
    """Where the token ids must lie: with the embedding."""
    get = getattr(base_of(model), "get_input_embeddings", None)
    try:
        embedding = get() if callable(get) else None
    except NotImplementedError:
        embedding = None
    for source in (embedding, model):
        if isinstance(source, nn.Module):
            for parameter in source.parameters():
                if parameter.device.type != "meta":
                    return parameter.device
    return torch.device("cpu")
