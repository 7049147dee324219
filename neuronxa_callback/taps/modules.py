"""Module paths without wrappers, and checks for linear layers, norms and experts."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def unwrapped_path(path: str) -> str:
    """A module's path without the names that compile, FSDP, checkpointing and PEFT insert."""
    path = ".".join(name for name in path.split(".") if name not in WRAPPERS)
    return re.sub(r"^(module\.)*(base_model\.model\.)?", "", path)


def modules_by_path(model: nn.Module) -> dict[str, nn.Module]:
    """Unwrapped path -> module. A wrapper and its content share a path: the content wins."""
    return {unwrapped_path(path): module for path, module in model.named_modules()}


def is_list_entry(path: str) -> bool:
    """Whether the path ends in a number, as the entries of a module list do."""
    return path.rpartition(".")[2].isdigit()


def up_to_first_number(path: str) -> str:
    """The path up to its first number; empty if it has none."""
    match = re.match(r".*?\.\d+(?=\.|$)", path)
    return match[0] if match else ""


def is_linear(module: nn.Module) -> bool:
    """Whether the module acts as one linear layer (also LoRA, 4-bit, Conv1D, 1x1 convolution)."""
    if isinstance(module, nn.Conv1d):
        return module.kernel_size == (1,)
    if type(module).__name__ == "Conv1D":
        return hasattr(module, "nf")
    inner = getattr(module, "base_layer", None)
    if isinstance(inner, nn.Module):
        return is_linear(inner)
    if hasattr(module, "input_size") and module._parameters.get("weight") is not None:
        # JetMoE: one module holds the linear layers of all experts and gets rows sorted by expert.
        return module._parameters["weight"].ndim == 3  # type: ignore[union-attr]
    sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(size, int) for size in sizes)


def is_norm(module: nn.Module) -> bool:
    """Whether the module is a normalization, judged by the name of its class."""
    return "norm" in type(module).__name__.lower() and not contains_linear(module)


def contains_linear(module: nn.Module) -> bool:
    """Whether the module is a linear layer or contains one."""
    return any(is_linear(inner) for inner in module.modules())


def is_single_operation(module: nn.Module) -> bool:
    """Whether a trace records the module as one operation: norms, and experts as 3-D weights."""
    stacked = isinstance(getattr(module, "down_proj", None), Tensor)
    flat = isinstance(getattr(module._modules.get("mlp"), "w1", None), Tensor)
    return is_norm(module) or stacked or flat


def channel_dim(module: nn.Module) -> int:
    """The dimension of a linear layer's input and output that holds the channels."""
    return 1 if isinstance(module, nn.Conv1d) else -1


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested arguments, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_of(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)


def local_shard(states: Tensor) -> Tensor:
    """This rank's part of a tensor that is sharded over ranks; any other tensor unchanged."""
    to_local = getattr(states, "to_local", None)
    return to_local() if callable(to_local) else states
