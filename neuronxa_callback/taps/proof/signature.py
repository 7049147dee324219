"""A cheap picture of a model's structure, to see at each probe whether a plan still fits."""

import weakref
from collections.abc import Iterator
from typing import Any

from torch import nn

ADAPTERS = ("_active_adapter", "_disable_adapters", "merged_adapters")
"""Attributes of PEFT's layers that say which adapter runs."""


class ModelSignature:
    """Modules, parameters, hooks, patched functions, flags and adapters of a model at one time.

    It reads no value of a tensor, so it needs no synchronization with a device, and it keeps
    neither modules nor parameters alive.

    Args:
        model: The model.
        identities: Whether parameters must stay the same objects. Sharding replaces them.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> signature = ModelSignature(model)
        >>> signature.matches(model)
        True
        >>> model[1] = nn.GELU()
        >>> signature.matches(model)
        False
    """

    def __init__(self, model: nn.Module, identities: bool = True) -> None:
        self.identities = identities
        self._facts = _facts(model)
        self._objects = [weakref.ref(item) for item in self._objects_of(model)]

    def matches(self, model: nn.Module) -> bool:
        """Whether ``model`` is the same object with the same structure."""
        objects = list(self._objects_of(model))
        return (
            len(objects) == len(self._objects)
            and all(ref() is item for ref, item in zip(self._objects, objects, strict=True))
            and self._facts == _facts(model)
        )

    def _objects_of(self, model: nn.Module) -> Iterator[Any]:
        yield from model.modules()
        if self.identities:
            yield from model.parameters()


def _facts(model: nn.Module) -> list[Any]:
    """All that is compared by value."""
    facts: list[Any] = []
    for path, module in model.named_modules():
        own = module.__dict__
        # Handles of hooks are never used twice.
        hooks = (*module._forward_pre_hooks, *module._forward_hooks)
        functions = tuple((name, id(value)) for name, value in own.items() if callable(value))
        flags = tuple(
            (name, value)
            for name, value in own.items()
            if isinstance(value, (bool, str)) and name != "training"
        )
        adapters = tuple(str(own[name]) for name in ADAPTERS if name in own)
        shapes = tuple(
            (name, tuple(getattr(parameter, "ds_shape", parameter.shape)), parameter.dtype)
            for name, parameter in module._parameters.items()
            if parameter is not None
        )
        facts.append((path, type(module), hooks, functions, flags, adapters, shapes))
    return facts
