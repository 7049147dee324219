"""The model as it is, undisturbed: what a probe changes on the way is put back, come what may."""

import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
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
    buffers = [_Buffers(module) for module in modules if module._buffers]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, flag in zip(modules, flags, strict=True):
            module.training = flag
        for each in buffers:
            each.restore()


class _Buffers:
    """A module's buffers, and the plain attributes that go with them.

    Some forwards write even in eval mode: rotary embeddings that grow with the sequence, scaling
    factors of FP8, counters of routers.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.saved = {
            name: (buffer, buffer._version, buffer.clone())
            for name, buffer in module._buffers.items()
            if buffer is not None
        }
        self.plain = _plain(module.__dict__)

    def restore(self) -> None:
        now = self.module._buffers
        changed = {
            name
            for name, (buffer, version, _) in self.saved.items()
            if now.get(name) is not buffer or buffer._version != version
        }
        if not changed:
            return
        for name in sorted(changed):
            buffer, version, copy = self.saved[name]
            if buffer._version != version:
                buffer.copy_(copy)
            now[name] = buffer
        self.module.__dict__.update(self.plain)


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    kinds = (bool, int, float, str, Tensor)
    return {name: value for name, value in attributes.items() if isinstance(value, kinds)}
