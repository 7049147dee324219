"""From the signature of a model's forward to the arguments with which a probe calls it.

What a signature leaves open (token ids or a dictionary? labels per token or per sentence?) is tried
in a fixed order by ``Forward.choose``.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import ConfigError

IDS = ("input_ids", "tokens", "idx", "ids", "token_ids", "input_tokens")
"""Arguments that can only be token ids."""
IDS_OR_DICT = ("input", "inputs", "x", "src", "text", "features", "batch", "sample")
"""Arguments that are token ids or a dictionary; the names at the end are tried as one first."""
DICT_FIRST = ("features", "batch", "sample", "data", "examples")
MASKS = ("attention_mask",)
"""True or 1 at tokens."""
PADDING_MASKS = ("src_key_padding_mask", "key_padding_mask")
"""True at padding, as in torch.nn."""
LABELS = ("labels", "label", "targets", "target", "y")
OTHER_MEDIA = re.compile(r"pixel|image|vision|video|audio")
"""Arguments that a model of text and other media gets for text alone: None."""
HIDDEN_BEHIND_KWARGS = ("return_dict", "output_hidden_states", "attention_mask")
"""Options of transformers that are passed even where the signature hides them in ``**kwargs``."""
EXAMPLE = (
    "give forward=, a function of the model and a dictionary with input_ids and attention_mask"
    " [sentences, tokens], such as"
    ' def forward(model, batch): return model(batch["input_ids"])'
)


@dataclass(frozen=True)
class CallForm:
    """One way to pass a microbatch to a model."""

    first: str
    """The argument that gets the token ids or the dictionary; empty for ``**kwargs`` alone."""
    as_dict: bool = False
    """Whether ``first`` gets a dictionary; its entries are ``names``."""
    by_keyword: bool = True
    names: tuple[str, ...] = ()
    """The other arguments, or the entries of the dictionary."""
    sentence_labels: bool = False
    """Whether labels are [sentences] instead of [sentences, tokens]."""
    extensible: bool = False
    """Whether a ``KeyError`` may name an entry that the model wants too."""
    options: bool = False
    """Whether options of transformers (``use_cache``, ``return_dict``) are passed too."""

    def arguments(
        self, ids: Tensor, mask: Tensor, options: Mapping[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments.

        Args:
            ids: [sentences, tokens], int64.
            mask: [sentences, tokens], bool, True at tokens.
            options: Further keyword arguments.
        """
        others = {name: self._value(name, ids, mask) for name in self.names}
        given, rest = (others, {}) if self.as_dict else (ids, others)
        rest = {**rest, **options} if self.options else rest
        if not self.first:
            return (), rest
        return ((), {self.first: given, **rest}) if self.by_keyword else ((given,), rest)

    def extended(self, name: object) -> "CallForm | None":
        """The same with one more entry; None if it has no known meaning."""
        known = (*IDS, *IDS_OR_DICT, *MASKS, *PADDING_MASKS, *LABELS, "token_type_ids")
        if not self.extensible or name not in known or name in self.names:
            return None
        return replace(self, names=(*self.names, str(name)))

    def for_sentences(self) -> "CallForm | None":
        """The same with one label per sentence; None without labels."""
        wants = not self.sentence_labels and any(name in LABELS for name in self.names)
        return replace(self, sentence_labels=True) if wants else None

    def _value(self, name: str, ids: Tensor, mask: Tensor) -> Tensor | None:
        if name in MASKS:
            return mask.long()
        if name in PADDING_MASKS:
            return ~mask
        if name == "token_type_ids":
            return torch.zeros_like(ids)
        if name in LABELS:
            # Class 0 exists in every loss; padding is left out of it.
            labels = torch.zeros_like(ids)
            return labels[:, 0] if self.sentence_labels else labels.masked_fill(~mask, -100)
        return None if OTHER_MEDIA.search(name) else ids


def call_forms(base: nn.Module) -> tuple[CallForm, ...]:
    """The ways to call a model, the most likely first.

    Args:
        base: The model without wrappers.

    Raises:
        ConfigError: If the forward wants an argument of unknown meaning, or none at all.

    Example:
        >>> class GPT(nn.Module):
        ...     def forward(self, idx, targets=None): ...
        >>> [form.first for form in call_forms(GPT())]
        ['idx']
    """
    parameters, entries = parameters_of(base), ("input_ids", "attention_mask")
    named = {n: p for n, p in parameters.items() if p.kind not in _VARIABLE}
    if not named and not takes_keywords(base) and parameters:
        form = CallForm("*", by_keyword=False)
        return (form, replace(form, as_dict=True, names=entries, extensible=True))
    if not named and takes_keywords(base):
        form = CallForm("", names=entries, extensible=True, options=True)
        return (form,) if _is_pretrained(base) else (form, replace(form, options=False))
    first = _first_of(base, named)
    form = CallForm(first, names=_others(base, named, first))
    if first == "input_ids":
        form = replace(form, options=True)
        plain = takes_keywords(base) and not _is_pretrained(base)
        return (form, replace(form, options=False)) if plain else (form,)
    # By position where possible: a trace of the call looks for token ids there.
    by_keyword = first != next(iter(named)) or named[first].kind is inspect.Parameter.KEYWORD_ONLY
    form = replace(form, by_keyword=by_keyword)
    if first in IDS:
        return (form,)
    batch = replace(form, as_dict=True, names=entries, extensible=True)
    annotation = str(named[first].annotation)
    dict_first = first in DICT_FIRST or re.search(r"\b(dict|Dict|Mapping)\b", annotation)
    return (batch, form) if dict_first else (form, batch)


def require_forward(model: nn.Module) -> None:
    """Raises an error if the model has no forward.

    Raises:
        ConfigError: Names a module that may have one.
    """
    forward: Any = model.forward
    own = getattr(forward, "__func__", forward)
    # LightningModule replaces the method of torch.nn with one that fails too.
    if own is nn.Module.forward or getattr(own, "__qualname__", "") == "LightningModule.forward":
        inner = next((name for name, _ in model.named_children()), "model")
        raise ConfigError(
            f"{type(model).__name__} must have a forward, but it defines none; probe the module"
            f" that runs the tokens, such as probe.run(model.{inner}), or {EXAMPLE}"
        )


_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def parameters_of(module: nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of the forward of a module's class, without the module itself.

    Of the class: the forward of an object may be patched with ``(*args, **kwargs)``.
    """
    try:
        parameters = list(inspect.signature(type(module).forward).parameters.items())
    except (AttributeError, TypeError, ValueError):
        return {}
    own = parameters[:1] if parameters and parameters[0][1].kind not in _VARIABLE else []
    return dict(parameters[len(own) :])


def takes_keywords(module: nn.Module) -> bool:
    """Whether the forward takes keyword arguments that its signature does not name.

    Decorators of transformers take options such as ``return_dict`` out of the call.
    """
    kinds = [p.kind for p in parameters_of(module).values()]
    function: Any = type(module).forward
    while hasattr(function, "__wrapped__"):
        scope: Mapping[str, Any] = getattr(function, "__globals__", {})
        if str(scope.get("__name__")).startswith("transformers."):
            return True
        function = function.__wrapped__
    return inspect.Parameter.VAR_KEYWORD in kinds


def passes_through(module: nn.Module) -> bool:
    """Whether the forward names no argument, as that of a wrapper."""
    return all(p.kind in _VARIABLE for p in parameters_of(module).values())


def is_of_transformers(module: nn.Module) -> bool:
    """Whether the forward comes from transformers, so that its call is known."""
    forward: Callable[..., Any] = type(module).forward
    return str(getattr(forward, "__module__", "")).startswith("transformers.")


def _is_pretrained(module: nn.Module) -> bool:
    names = {(kind.__name__, kind.__module__.partition(".")[0]) for kind in type(module).__mro__}
    return ("PreTrainedModel", "transformers") in names


def _first_of(base: nn.Module, named: Mapping[str, inspect.Parameter]) -> str:
    """The argument that gets the token ids or the dictionary."""
    required = [name for name, p in named.items() if p.default is p.empty and not _is_known(name)]
    known = [name for name in (*IDS, *IDS_OR_DICT) if name in named]
    candidates = [*known, *required, *(name for name in named if not _is_known(name))]
    if not candidates:
        raise ConfigError(f"{type(base).__name__}.forward takes no token ids; {EXAMPLE}")
    return candidates[0]


def _others(base: nn.Module, named: Mapping[str, inspect.Parameter], first: str) -> tuple[str, ...]:
    """The masks, and what is required; other optional arguments keep their defaults."""
    wanted = [
        name
        for name, p in named.items()
        if name != first and (name in (*MASKS, *PADDING_MASKS) or p.default is p.empty)
    ]
    wanted = [name for name in wanted if not name.startswith("decoder_")]
    unknown = [name for name in wanted if not _is_known(name)]
    if unknown:
        raise ConfigError(
            f"{type(base).__name__}.forward({', '.join(named)}) must be called with {unknown[0]},"
            f" whose meaning is not known; {EXAMPLE}"
        )
    return tuple(wanted)


def _is_known(name: str) -> bool:
    known = (*MASKS, *PADDING_MASKS, *LABELS, "token_type_ids")
    return name in known or OTHER_MEDIA.search(name) is not None
