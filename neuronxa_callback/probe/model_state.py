"""Restores model state and random numbers after a probe, also after an exception."""

import random
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuronxa_callback.errors import ProbeError


@contextmanager
def preserve_model_state(model: nn.Module) -> Iterator[None]:
    """Eval mode (dropout off), no gradients, eager execution inside; everything restored after.

    Not ``inference_mode``: a first forward in it breaks the training of sharded models. Compiled
    code ignores hooks that are added later, so compiled models run eagerly inside.

    Raises:
        ProbeError: On exit, if a forward changed a buffer that is too large to copy.
    """
    with ExitStack() as stack:
        stack.enter_context(_preserve_random_state())
        stack.enter_context(_preserve_modules(model))
        stack.enter_context(_pause_tracker_hooks(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_no_fast_path())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """In eval mode, ``nn.TransformerEncoder`` calls a fused kernel, which no hook can read."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextmanager
def _preserve_random_state() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count() if torch.cuda._initialized else 0)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _preserve_modules(model: nn.Module) -> Iterator[None]:
    # Flags are set one by one: train() and eval() may be overridden and do more than that.
    modules = list(model.modules())
    flags = [module.training for module in modules]
    saved = [_ModuleState(module) for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        lost: list[str] = []
        for module, flag, state in zip(modules, flags, saved, strict=True):
            module.training = flag
            lost += state.restore()
        if lost:
            raise ProbeError(
                "a forward pass in eval mode must leave large tensors as they are, but"
                f" {lost[0]} was written to, and there is no copy of it; probe saved checkpoints"
                " with `neuronxa sweep` instead"
            )


@contextmanager
def _pause_tracker_hooks(model: nn.Module) -> Iterator[None]:
    """Hooks of ``wandb.watch`` count forwards and log; those of a probe are not training's."""
    paused = []
    for module in model.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            kept = {key: hook for key, hook in hooks.items() if not _is_tracker_hook(hook)}
            if len(kept) < len(hooks):
                paused.append((hooks, dict(hooks)))
                hooks.clear()
                hooks.update(kept)
    try:
        yield
    finally:
        for hooks, before in paused:
            hooks.clear()
            hooks.update(before)


def _is_tracker_hook(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).partition(".")[0] == "wandb"


PLAIN_TYPES = (bool, int, float, str)


class _ModuleState:
    """The buffers and plain attributes of a module, which a forward may change in eval mode too.

    Examples: rotary embeddings that grow with the sequence, FP8 scaling factors, router counters.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        attributes = module.__dict__.items()
        self.plain = {name: value for name, value in attributes if isinstance(value, PLAIN_TYPES)}
        tensors = {name: value for name, value in attributes if _is_own_tensor(value)}
        self.buffers, self.tensors = _TensorCopies(module._buffers), _TensorCopies(tensors)

    def restore(self) -> list[str]:
        """Restores the module; returns the names of tensors that could not be restored."""
        current = self.module.__dict__
        lost = self.buffers.restore(self.module._buffers) + self.tensors.restore(current)
        for name, value in self.plain.items():
            if current.get(name) is not value:
                current[name] = value
        return [f"{type(self.module).__name__}.{name}" for name in lost]


def _is_own_tensor(value: Any) -> bool:
    # Views and tensors with gradients are parameters, which sharding inserts and removes.
    return isinstance(value, Tensor) and not (value.requires_grad or value._is_view())


LARGE = 2**20
"""Number of elements above which a tensor is watched but not copied: quantized weights can be
buffers."""


class _TensorCopies:
    """Tensors by name, with their contents."""

    def __init__(self, tensors: Mapping[str, Tensor | None]) -> None:
        self.empty = [name for name, tensor in tensors.items() if tensor is None]
        self.saved = {
            name: (tensor, _version(tensor), tensor.clone() if tensor.numel() <= LARGE else None)
            for name, tensor in tensors.items()
            if tensor is not None
        }

    def restore(self, current: MutableMapping[str, Any]) -> list[str]:
        """Restores tensors and contents; returns the names of changed tensors without a copy."""
        lost = []
        for name, (tensor, version, copy) in self.saved.items():
            if current.get(name) is not tensor:
                current[name] = tensor
            if _version(tensor) != version and copy is not None:
                tensor.copy_(copy)
            elif _version(tensor) != version:
                lost.append(name)
        for name in self.empty:
            current[name] = None
        return lost


def _version(tensor: Tensor) -> int:
    # Inference-mode tensors have no version; nothing can write to them in here.
    return 0 if tensor.is_inference() else tensor._version


CHUNK = 2**20
"""Elements of one step of ``weights_checksum``."""
INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def weights_checksum(model: nn.Module) -> int | None:
    """A checksum of the bits, names and shapes of all parameters and buffers.

    Computed on the device of each tensor, in integers, with one transfer per device. Equal weights
    give equal numbers; other weights differ with overwhelming probability.

    Returns:
        An integer; None for weights that cannot be read here (meta device, shards, packed types).
    """
    tensors = [*model.named_parameters(), *model.named_buffers()]
    total = hash(tuple((name, tuple(tensor.shape), str(tensor.dtype)) for name, tensor in tensors))
    sums: dict[torch.device, Tensor] = {}
    factors: dict[torch.device, Tensor] = {}
    for _, tensor in tensors:
        if not _is_readable(tensor):
            return None
        device = tensor.device
        if device not in factors:
            odd = torch.arange(CHUNK, dtype=torch.int64, device=device) * 2654435761
            factors[device], sums[device] = (odd ^ (odd >> 7)) * 2 + 1, odd.new_zeros(())
        bits = tensor.detach().reshape(-1).view(INTEGERS[tensor.element_size()])
        for start in range(0, len(bits), CHUNK):
            chunk = bits[start : start + CHUNK]
            products = (chunk.to(torch.int64) + 1) * factors[device][: len(chunk)]
            sums[device] = sums[device] * 6364136223846793005 + products.sum()
    return hash((total, *(int(value) for value in sums.values())))


def _is_readable(tensor: Tensor) -> bool:
    plain = type(tensor.data) is Tensor and tensor.layout is torch.strided
    has_bits = not (tensor.is_meta or tensor.is_complex())
    return plain and has_bits and tensor.element_size() in INTEGERS
