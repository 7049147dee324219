"""Module paths without wrappers, and checks for linear layers, norms and experts."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
)


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


def stage_paths(model: nn.Module) -> frozenset[str]:
    """Entries of ``nn.Sequential`` that are no block of a list, but hold one.

    Example: SentenceTransformer is a sequence of a transformer, a pooling and a norm.
    """
    paths = {id(module): unwrapped_path(path) for path, module in model.named_modules()}
    stages = set()
    for sequence in model.modules():
        parts = list(sequence.children()) if isinstance(sequence, nn.Sequential) else []
        for part in parts:
            alone = sum(type(other) is type(part) for other in parts) == 1
            if alone and any(_holds_blocks(inner) for inner in part.modules()):
                stages.add(paths[id(part)])
    return frozenset(stages)


def _holds_blocks(module: nn.Module) -> bool:
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return False
    kinds = [type(entry) for entry in module if any(True for _ in entry.children())]
    return len(set(kinds)) < len(kinds)


def block_path(around: Sequence[str], stages: Collection[str]) -> str:
    """The outermost numbered block of the paths from outside to inside; empty if there is none."""
    numbered = (path for path in around if is_list_entry(path) and path not in stages)
    return next(numbered, up_to_first_number(around[-1]))


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
    named = "norm" in type(module).__name__.lower()
    return named and not contains_linear(module) and not is_norm_network(module)


def is_norm_network(module: nn.Module) -> bool:
    """Whether the module holds a norm and a feed-forward network, without layers of their own.

    Judged by its attributes, which are those of Transformer Engine's ``LayerNormMLP``.
    """
    weights = ("layer_norm_weight", "fc1_weight", "fc2_weight")
    named = isinstance(getattr(module, "activation", None), str)
    return named and all(isinstance(getattr(module, name, None), Tensor) for name in weights)


def contains_linear(module: nn.Module) -> bool:
    """Whether the module is a linear layer or contains one."""
    return any(is_linear(inner) for inner in module.modules())


def is_single_operation(module: nn.Module) -> bool:
    """Whether a trace records the module as one operation: norms, and what holds bare weights."""
    stacked = getattr(module, "down_proj", None)
    glu = module._modules.get("mlp")
    flat = hasattr(module, "num_experts") and all(
        isinstance(getattr(glu, name, None), Tensor) for name in ("w1", "v1", "w2")
    )
    experts = (isinstance(stacked, Tensor) and stacked.ndim == 3) or flat
    return is_norm(module) or is_norm_network(module) or experts


@contextmanager
def loaded(module: nn.Module) -> Iterator[None]:
    """Loads the weights of an offloaded module (accelerate) as its forward pass would."""
    hook: Any = getattr(module, "_hf_hook", None)
    if hook is None or all(weight.device.type != "meta" for weight in module.parameters()):
        yield
        return
    hook.pre_forward(module)
    try:
        yield
    finally:
        hook.post_forward(module, None)


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
