"""How a model is called: whole, without cache, with the fewest logits that it allows."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import ConfigError, NeuronXAError
from neuronxa_callback.probe.arguments import heads
from neuronxa_callback.probe.arguments.signature import (
    EXAMPLE,
    HIDDEN_BEHIND_KWARGS,
    CallForm,
    call_forms,
    is_of_transformers,
    parameters_of,
    passes_through,
    require_forward,
    takes_keywords,
)
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.memory import is_oom

ForwardFunction = Callable[[nn.Module, dict[str, Tensor]], object]
"""Runs a model on a microbatch: ``input_ids`` and ``attention_mask``, int64 [sentences, tokens].

The model is the one that is probed; what is returned is used only for its ``hidden_states``."""


class Forward:
    """Calls a model with a microbatch.

    It calls the object that training holds, never a part of it: sharded models gather their
    weights, and autocast is applied, in that object's own forward.

    Args:
        model: The model.
        stack: ``"encoder"``, ``"decoder"`` or ``"both"``, for a model that has two.
        hidden: Whether to return the hidden states.
        together: Runs a forward in which all ranks take part (sharded weights, slices); None if
            every rank runs its own.
        function: Calls the model instead of its signature.

    Raises:
        ConfigError: If the signature of the model's forward does not show how to call it.
    """

    def __init__(
        self,
        model: nn.Module,
        stack: str,
        hidden: bool,
        together: Callable[[Callable[[], object]], object] | None = None,
        function: ForwardFunction | None = None,
    ) -> None:
        self.model, self.stack, self.hidden, self.together = model, stack, hidden, together
        self.function, self.base = function, base_of(model)
        self.parameters = parameters_of(self.base)
        self.of_transformers = function is None and is_of_transformers(self.base)
        """Whether the call is known to be right."""
        self.forms: tuple[CallForm, ...] = (CallForm("input_ids", options=True),)
        if function is None and not self.of_transformers:
            require_forward(model)
            self.forms = call_forms(self.base)
        self.config = getattr(language_model(model), "config", None)
        self.two_stacks = bool(getattr(self.config, "is_encoder_decoder", False))
        self.device = device_of(model)
        self._has_run = False

    def __call__(self, batch: Batch) -> Sequence[Tensor]:
        """Runs a microbatch.

        Returns:
            The hidden states as transformers returns them, each [batch, tokens, hidden size];
            empty unless requested.

        Raises:
            BrokenForwardError: If a collective forward fails: the other ranks wait in it.
            ConfigError: If the first call of a model that is not of transformers fails.
        """
        try:
            states = self._hidden_states(self._call(batch, self.forms[0]))
        except Exception as error:
            known = self._has_run or self.of_transformers or self.together is not None
            if known or _is_clear(error):
                raise
            raise self._not_callable(error) from error
        self._has_run = True
        return states

    def choose(self, batch: Batch) -> None:
        """Keeps the first way to call the model that succeeds, if its signature allows several.

        Raises:
            ConfigError: If none succeeds.
        """
        if self.together is not None or not _is_ambiguous(self.forms):
            # A forward that fails on sharded weights cannot be tried in another way.
            return
        candidates, first_error = list(self.forms), None
        while candidates:
            form = candidates.pop(0)
            try:
                self._call(batch, form)
            except Exception as error:
                if _is_clear(error):
                    raise
                first_error = first_error or error
                name = error.args[0] if isinstance(error, KeyError) and error.args else None
                others = (form.extended(name), None if name else form.for_sentences())
                candidates = [*(each for each in others if each is not None), *candidates]
            else:
                self.forms = (form,)
                return
        assert first_error is not None
        raise self._not_callable(first_error) from first_error

    def _not_callable(self, error: Exception) -> ConfigError:
        if self.function is not None:
            name = getattr(self.function, "__qualname__", type(self.function).__qualname__)
            return ConfigError(
                f"the function given as forward= must run the model, but {name} failed with"
                f" {type(error).__name__}: {_one_line(error)}; it gets the model and a dictionary"
                " with input_ids and attention_mask [sentences, tokens]"
            )
        return ConfigError(
            f"the probe must know how to call {type(self.base).__name__}.forward("
            f"{', '.join(self.parameters)}), but its call failed with {type(error).__name__}:"
            f" {_one_line(error)}; {EXAMPLE}"
        )

    def _call(self, batch: Batch, form: CallForm) -> object:
        ids, mask = batch.ids.to(self.device), batch.mask.to(self.device)
        if self.function is not None:
            inputs = {"input_ids": ids, "attention_mask": mask.long()}
            return self._run(partial(self.function, self.model, inputs))
        if self.of_transformers and heads.is_multiple_choice(self.base):
            ids, mask = ids[:, None], mask[:, None]
        elif self.of_transformers and heads.reads_end_of_sentence(self.base):
            heads.require_ends(self.base, batch.ids)
        options = self._options(ids, mask) if form.options else {}
        args, kwargs = form.arguments(ids, mask, options)
        return self._run(partial(self.model, *args, **kwargs))

    def _run(self, call: Callable[[], object]) -> object:
        return call() if self.together is None else self.together(call)

    def _hidden_states(self, output: Any) -> tuple[Tensor, ...]:
        if not self.hidden:
            return ()
        name = f"{self.stack}_hidden_states" if self.two_stacks else "hidden_states"
        is_mapping = isinstance(output, Mapping)
        states = output.get(name) if is_mapping else getattr(output, name, None)
        if states is None:
            raise ConfigError(
                f"mexa reads hidden states, but {type(self.base).__name__} returns no {name}; give"
                " forward=, a function whose result has them, or other metrics"
            )
        return tuple(states)

    def _options(self, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        optional: dict[str, Any] = {
            "attention_mask": mask.long(),
            "use_cache": False,
            "return_dict": True,
            "output_hidden_states": self.hidden or None,
            "logits_to_keep": 1,
            "num_logits_to_keep": 1,
        }
        takes_more = self.of_transformers or takes_keywords(self.base)
        hidden = HIDDEN_BEHIND_KWARGS if takes_more else ()
        options = {
            name: value
            for name, value in optional.items()
            if value is not None and (name in self.parameters or name in hidden)
        }
        if self.two_stacks and (takes_more or "decoder_input_ids" in self.parameters):
            options |= self._decoder_arguments(ids, mask)
        return options

    def _decoder_arguments(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The sentence itself if the decoder or the head needs it, else one start token."""
        if self.stack != "encoder" or heads.reads_end_of_sentence(self.base):
            return {"decoder_input_ids": ids, "decoder_attention_mask": mask.long()}
        start = getattr(self.config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(self.config, "pad_token_id", None) or 0
        return {"decoder_input_ids": torch.full_like(ids[:, :1], start)}


def _is_ambiguous(forms: Sequence[CallForm]) -> bool:
    return len(forms) > 1 or any(f.extensible or f.for_sentences() is not None for f in forms)


def _is_clear(error: Exception) -> bool:
    """Whether the error says enough, or is handled elsewhere."""
    return isinstance(error, NeuronXAError) or is_oom(error)


def _one_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")


WRAPPED = ("module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module")
"""Where wrappers keep the model: DDP and DeepSpeed, compile, FSDP, Fabric."""


def base_of(model: nn.Module) -> nn.Module:
    """The model inside wrappers (DDP, compile, FSDP, Fabric) and adapters."""
    if passes_through(model):
        for name in WRAPPED:
            inner = model._modules.get(name)
            if isinstance(inner, nn.Module):
                return base_of(inner)
        children = list(model.children())
        if len(children) == 1 and not is_of_transformers(model):
            return base_of(children[0])
    get = getattr(model, "get_base_model", None)
    base = get() if callable(get) else model
    return base if isinstance(base, nn.Module) else model


def language_model(model: nn.Module) -> nn.Module:
    """The part of a model that embeds text: itself, or the submodule with the most tokens."""
    base = base_of(model)
    if is_of_transformers(base) or callable(getattr(base, "get_input_embeddings", None)):
        return base
    parts = [part for part in base.modules() if _own_embedding(part) is not None]
    return max(parts, key=_rows_of, default=base)


def text_config(model: nn.Module) -> Any:
    """The configuration of the language part; None if the model has no configuration."""
    config = getattr(language_model(model), "config", None)
    get = getattr(config, "get_text_config", None)
    return get() if callable(get) else config


def embedding_rows(model: nn.Module) -> int | None:
    """The number of token ids that the model has an embedding for; None if it is unknown."""
    language = language_model(model)
    named = is_of_transformers(language) or _own_embedding(language) is not None
    tables = [] if named else embedding_tables(language)
    return max(_rows_of(language), *(table.num_embeddings for table in tables), 0) or None


def tokens_at_once(model: nn.Module, batch_tokens: int) -> int:
    """``batch_tokens``, or 1 if every sentence must run alone, since it is longer than that.

    Sequence classification without a padding token refuses batches.
    """
    classifies = heads.has_head(base_of(model), "ForSequenceClassification")
    alone = classifies and getattr(text_config(model), "pad_token_id", None) is None
    return 1 if alone else batch_tokens


def embedding_tables(model: nn.Module, positions: bool = False) -> list[nn.Embedding]:
    """The embedding tables of tokens, or of positions, in a model of plain PyTorch, by name."""
    return [
        module
        for name, module in base_of(model).named_modules()
        if isinstance(module, nn.Embedding)
        and bool(POSITION_TABLE.search(name.rpartition(".")[2])) is positions
    ]


POSITION_TABLE = re.compile(r"pos|wpe|time|type|segment", re.IGNORECASE)
"""Names of embedding tables that do not hold tokens."""


def _own_embedding(module: nn.Module) -> nn.Module | None:
    """The token embedding that the module names itself."""
    get = getattr(module, "get_input_embeddings", None)
    try:
        embedding = get() if callable(get) else None
    except NotImplementedError:
        embedding = None
    return embedding if isinstance(embedding, nn.Module) else None


def _rows_of(module: nn.Module) -> int:
    embedding = _own_embedding(module)
    weight = getattr(embedding, "weight", None)
    # Sharded weights may be flat here, so that only the module knows; adapters only have weights.
    rows = weight.shape[0] if isinstance(weight, Tensor) and weight.ndim == 2 else 0
    return max(getattr(embedding, "num_embeddings", 0), rows)


def device_of(model: nn.Module) -> torch.device:
    """The device that token ids must be on: that of the embedding."""
    embedding = _own_embedding(language_model(model))
    for source in (embedding or nn.Module(), model):
        for parameter in source.parameters():
            if parameter.device.type != "meta":
                return parameter.device
    return torch.device("cpu")
