"""A cheap check that a model still has the modules in which its neurons were found."""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from neuronxa_callback.taps.modules import is_linear, is_list_entry

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
    inner = getattr(module, "base_layer", module)
    weights = inner._parameters.values()
    if any(isinstance(weight, Tensor) and not weight.numel() for weight in weights):
        return ()
    return tuple(tuple(weight.shape) for weight in weights if weight is not None)
