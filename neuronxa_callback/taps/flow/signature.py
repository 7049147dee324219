"""Cheap checks that a model is still the one in which neurons were found and proved.

``ModelSignature`` sees every change of a model and is taken at each probe. ``signature_of`` holds
what a plan reads, and stays the same if the model is wrapped, sharded or gets adapters.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType
from typing import Any

from torch import Tensor, nn

from neuronxa_callback.taps.modules import is_linear, is_list_entry

ADAPTERS = ("_active_adapter", "_disable_adapters", "merged_adapters", "scaling")
"""Attributes of PEFT's layers that say which adapter runs, and how strongly."""


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
        # The text of a tensor holds its values.
        adapters = tuple(
            str(own[name]) for name in ADAPTERS if not isinstance(own.get(name), (Tensor, NoneType))
        )
        shapes = tuple((weight.dtype, sizes) for weight, sizes in _weights(module))
        facts.append((path, type(module), hooks, functions, flags, adapters, shapes))
    return facts


Signature = tuple[tuple[str, str, tuple[tuple[int, ...], ...]], ...]
"""Path, class and sizes of every module that is read; path and number of entries of its lists."""


def signature_of(paths: Iterable[str], modules: Mapping[str, nn.Module]) -> Signature:
    """What must stay as it is in the modules of these paths, and in the lists around them."""
    found: dict[str, tuple[str, str, tuple[tuple[int, ...], ...]]] = {}
    for path in paths:
        if path in modules:
            found[path] = (path, _class_of(modules[path]), _sizes(modules[path]))
        names = path.split(".")
        for end in range(1, len(names) + 1):
            parent = ".".join(names[: end - 1])
            if is_list_entry(".".join(names[:end])) and parent in modules and parent not in found:
                found[parent] = (parent, "", ((len(modules[parent]._modules),),))
    return tuple(found.values())


def change_of(signature: Signature, modules: Mapping[str, nn.Module]) -> str:
    """The first difference, as text; empty if there is none. Missing modules are no difference."""
    for path, name, sizes in signature:
        module = modules.get(path)
        if module is None:
            continue
        if not name:
            if len(module._modules) != sizes[0][0]:
                return f"{path} has {len(module._modules)} modules instead of {sizes[0][0]}"
            continue
        if not any(_name(cls) == name for cls in type(module).__mro__) and not is_linear(module):
            return f"{path} is a {type(module).__name__} instead of a {name.rpartition('.')[2]}"
        now = _sizes(module)
        if sizes and now and now != sizes:
            return f"the weights of {path} have other sizes than before"
    return ""


def _class_of(module: nn.Module) -> str:
    return _name(type(module))


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _sizes(module: nn.Module) -> tuple[tuple[int, ...], ...]:
    # Adapters wrap a layer: its own weights are those of the layer inside.
    weights = list(_weights(getattr(module, "base_layer", module)))
    if any(not weight.numel() for weight, _ in weights):
        return ()
    return tuple(sizes for _, sizes in weights)


def _weights(module: nn.Module) -> Iterator[tuple[Tensor, tuple[int, ...]]]:
    """The module's own weights, and their sizes before DeepSpeed cuts them."""
    for weight in module._parameters.values():
        if isinstance(weight, Tensor):
            yield weight, tuple(getattr(weight, "ds_shape", weight.shape))
