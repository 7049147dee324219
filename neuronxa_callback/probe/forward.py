"""How a model is called: whole, without cache, with the fewest logits that it allows."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import BrokenForwardError
from neuronxa_callback.probe.batching import Batch

ALWAYS_PASSED = ("return_dict", "output_hidden_states", "attention_mask")
"""Arguments that are passed even where the signature hides them behind ``**kwargs``."""


class Forward:
    """Calls a model of transformers with a microbatch.

    It calls the object that training holds, never a part of it: sharded models gather their
    weights, and autocast is applied, in that object's own forward.

    Args:
        model: The model.
        stack: ``"encoder"``, ``"decoder"`` or ``"both"``, for a model that has two.
        hidden: Whether to return the hidden states.
        confirm: Called in front of a forward in which all ranks take part (sharded weights,
            slices), while each of them can still leave; None if every rank runs its own.
    """

    def __init__(
        self,
        model: nn.Module,
        stack: str,
        hidden: bool,
        confirm: Callable[[], None] | None = None,
    ) -> None:
        self.model, self.stack, self.hidden, self.confirm = model, stack, hidden, confirm
        base = base_of(model)
        # The forward of the class: an instance's may be patched with (*args, **kwargs).
        self.parameters = inspect.signature(type(base).forward).parameters
        self.config = getattr(base, "config", None)
        self.two_stacks = bool(getattr(self.config, "is_encoder_decoder", False))
        self.device = device_of(model)

    def __call__(self, batch: Batch) -> Sequence[Tensor]:
        """Runs a microbatch.

        Returns:
            The hidden states as transformers returns them, each [batch, tokens, hidden size];
            empty unless requested.

        Raises:
            BrokenForwardError: If a collective forward fails: the other ranks wait in it.
        """
        arguments = self._arguments(batch)
        if self.confirm is not None:
            self.confirm()
        try:
            output = self.model(**arguments)
        except Exception as error:
            if self.confirm is None:
                raise
            raise BrokenForwardError(
                "the model's forward failed in a probe while its weights are spread over ranks,"
                f" so the job ends as it would in training: {type(error).__name__}: {error}"
            ) from error

        if not self.hidden:
            return ()
        prefix = f"{self.stack}_" if self.two_stacks else ""
        return tuple(output[f"{prefix}hidden_states"])

    def _arguments(self, batch: Batch) -> dict[str, Any]:
        ids = batch.ids.to(self.device)
        mask = batch.mask.to(self.device)
        optional: dict[str, Any] = {
            "attention_mask": mask.long(),
            "use_cache": False,
            "return_dict": True,
            "output_hidden_states": self.hidden or None,
            "logits_to_keep": 1,
            "num_logits_to_keep": 1,
        }
        arguments = {
            name: value
            for name, value in optional.items()
            if value is not None and (name in self.parameters or name in ALWAYS_PASSED)
        }
        if self.two_stacks:
            arguments |= self._decoder_arguments(ids, mask)
        return {"input_ids": ids, **arguments}

    def _decoder_arguments(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The sentence itself if the decoder is measured, else one start token."""
        if self.stack != "encoder":
            return {"decoder_input_ids": ids, "decoder_attention_mask": mask.long()}
        start = getattr(self.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(self.config, "pad_token_id", None) or 0
        return {"decoder_input_ids": torch.full_like(ids[:, :1], start)}


def base_of(model: nn.Module) -> nn.Module:
    """The model of transformers inside wrappers (DDP, compile, FSDP) and adapters."""
    for name in ("module", "_orig_mod", "_fsdp_wrapped_module"):
        inner = model._modules.get(name)
        if isinstance(inner, nn.Module):
            return base_of(inner)
    get = getattr(model, "get_base_model", None)
    base = get() if callable(get) else model
    return base if isinstance(base, nn.Module) else model


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part; None if the model has no configuration."""
    config = getattr(base_of(model), "config", None)
    get = getattr(config, "get_text_config", None)
    return get() if callable(get) else config


def embedding_rows(model: nn.Module) -> int | None:
    """The number of token ids that the model has an embedding for; None if it is unknown."""
    embedding = _embedding_of(model)
    weight = getattr(embedding, "weight", None)
    # Sharded weights may be flat here, so that only the module knows; adapters only have weights.
    rows = weight.shape[0] if isinstance(weight, Tensor) and weight.ndim == 2 else 0
    return max(getattr(embedding, "num_embeddings", 0), rows) or None


def tokens_at_once(model: nn.Module, batch_tokens: int) -> int:
    """``batch_tokens``, or 1 if every sentence must run alone, since it is longer than that.

    Sequence classification without a padding token refuses batches.
    """
    classes = (kind.__name__ for kind in type(base_of(model)).__mro__)
    classifies = any(name.endswith("ForSequenceClassification") for name in classes)
    alone = classifies and getattr(text_config(model), "pad_token_id", None) is None
    return 1 if alone else batch_tokens


def _embedding_of(model: nn.Module) -> nn.Module:
    get = getattr(base_of(model), "get_input_embeddings", None)
    try:
        embedding = get() if callable(get) else None
    except NotImplementedError:
        embedding = None
    return embedding if isinstance(embedding, nn.Module) else nn.Module()


def device_of(model: nn.Module) -> torch.device:
    """The device that token ids must be on: that of the embedding."""
    for source in (_embedding_of(model), model):
        for parameter in source.parameters():
            if parameter.device.type != "meta":
                return parameter.device
    return torch.device("cpu")
