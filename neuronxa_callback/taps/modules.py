"""What a module is, and what it is called: paths without wrappers, linear layers, norms."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def clean(path: str) -> str:
    """A module's path without what wrappers (compile, FSDP, checkpointing, PEFT) put in."""
    path = ".".join(each for each in path.split(".") if each not in WRAPPERS)
    return re.sub(r"^(module\.)*(base_model\.model\.)?", "", path)


def named(model: nn.Module) -> dict[str, nn.Module]:
    """Cleaned path -> module; of a wrapper and what it wraps, the one inside."""
    return {clean(path): module for path, module in model.named_modules()}


def numbered(path: str) -> bool:
    """Whether the path is that of an entry of a module list."""
    return path.rpartition(".")[2].isdigit()


def numbered_part(path: str) -> str:
    """The path up to its first number; empty where it has none."""
    found = re.match(r".*?\.\d+(?=\.|$)", path)
    return found[0] if found else ""


def is_linear(module: nn.Module) -> bool:
    """Whether the module acts like one linear layer: LoRA, 4-bit, Conv1D, 1x1 convolution too."""
    if isinstance(module, nn.Conv1d):
        return module.kernel_size == (1,)
    if type(module).__name__ == "Conv1D":
        return hasattr(module, "nf")
    inner = getattr(module, "base_layer", None)
    if isinstance(inner, nn.Module):
        return is_linear(inner)
    if hasattr(module, "input_size") and module._parameters.get("weight") is not None:
        # Linear layers of all experts, one after another in the rows (JetMoE).
        return module._parameters["weight"].ndim == 3  # type: ignore[union-attr]
    sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(each, int) for each in sizes)


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a normalisation, by its class's name."""
    return "norm" in type(module).__name__.lower() and not holds_linear(module)


def holds_linear(module: nn.Module) -> bool:
    """Whether there is a linear layer in it, or it is one."""
    return any(is_linear(each) for each in module.modules())


def opaque(module: nn.Module) -> bool:
    """Norms, and modules that hold experts as 3-D weights: one operation each."""
    stacked = isinstance(getattr(module, "down_proj", None), Tensor)
    flat = isinstance(getattr(module._modules.get("mlp"), "w1", None), Tensor)
    return is_norm(module) or stacked or flat


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested arguments, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors_of(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_of(each)
