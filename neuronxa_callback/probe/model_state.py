"""The model as it is, undisturbed: what a probe changes on the way is put back, come what may."""

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
    """Every module in eval mode, no gradients, eager; random numbers and state kept.

    Never ``inference_mode``: a first forward in it breaks the training of sharded models. Compiled
    code ignores hooks that came later, so compiled models run eagerly in here.
    """
    with ExitStack() as stack:
        stack.enter_context(_random_state_kept())
        stack.enter_context(_modules_kept(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextmanager
def _random_state_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count() if torch.cuda._initialized else 0)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def _modules_kept(model: nn.Module) -> Iterator[None]:
    # Flags are set one by one: train() and eval() may be overridden and do more than that.
    modules = list(model.modules())
    flags = [module.training for module in modules]
    kept = [_Kept(module) for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        spoilt: list[str] = []
        for module, flag, each in zip(modules, flags, kept, strict=True):
            module.training = flag
            spoilt += each.restore()
        if spoilt:
            raise ProbeError(
                "a forward pass in eval mode must leave large tensors as they are, but"
                f" {spoilt[0]} was written to, and there is no copy of it; probe saved checkpoints"
                " with `neuronxa sweep` instead"
            )


class _Kept:
    """What a module's forward may write to, even in eval mode: buffers and plain attributes.

    Rotary embeddings that grow with the sequence do, scaling factors of FP8, counters of routers.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.plain = {
            name: each for name, each in module.__dict__.items() if isinstance(each, _PLAIN)
        }
        loose = {name: each for name, each in module.__dict__.items() if _is_own(each)}
        self.buffers, self.loose = _Copies(module._buffers), _Copies(loose)

    def restore(self) -> list[str]:
        """What could not be put back, by name."""
        now = self.module.__dict__
        spoilt = self.buffers.restore(self.module._buffers) + self.loose.restore(now)
        for name, each in self.plain.items():
            if now.get(name) is not each:
                now[name] = each
        return [f"{type(self.module).__name__}.{name}" for name in spoilt]


_PLAIN = (bool, int, float, str)


def _is_own(value: Any) -> bool:
    # Views and what has gradients are parameters, which sharding puts in and takes out again.
    return isinstance(value, Tensor) and not (value.requires_grad or value._is_view())


LARGE = 2**20
"""Elements above which a tensor is watched and not copied: quantised weights can be buffers."""


class _Copies:
    """Tensors by name, and what they held."""

    def __init__(self, tensors: Mapping[str, Tensor | None]) -> None:
        self.empty = [name for name, each in tensors.items() if each is None]
        self.saved = {
            name: (each, _version(each), each.clone() if each.numel() <= LARGE else None)
            for name, each in tensors.items()
            if each is not None
        }

    def restore(self, now: MutableMapping[str, Any]) -> list[str]:
        """Puts each tensor back in its place, with what it held; those that had no copy."""
        spoilt = []
        for name, (tensor, version, copy) in self.saved.items():
            if now.get(name) is not tensor:
                now[name] = tensor
            if _version(tensor) != version and copy is not None:
                tensor.copy_(copy)
            elif _version(tensor) != version:
                spoilt.append(name)
        for name in self.empty:
            now[name] = None
        return spoilt


def _version(tensor: Tensor) -> int:
    # Tensors of inference mode are not counted; nothing can write into them in here.
    return 0 if tensor.is_inference() else tensor._version
