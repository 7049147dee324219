"""What was measured, of what, and where: the three parts by which reports may meet or not."""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from inspect import getattr_static
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import nn

from neuronxa_callback._version import __version__
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.probe.batching import TokenizedCorpus
from neuronxa_callback.probe.forward import base_of, text_config

METHOD = 1
"""Rises whenever a score of the same states changes."""


def definition(
    config: ProbeConfig, corpus: ParallelCorpus, tokenised: TokenizedCorpus
) -> dict[str, Any]:
    """What must be equal wherever two reports meet."""
    pairs = json.dumps(tokenised.pairs, ensure_ascii=False, sort_keys=True)
    return {
        "method": METHOD,
        "corpus": corpus.name,
        "digest": hashlib.sha256(pairs.encode()).hexdigest()[:16],
        "pivot": corpus.pivot,
        "shared_pivot": corpus.shared_pivot,
        "languages": list(corpus.languages),
        "n_pairs": config.n_pairs,
        "metrics": {name: ALIGNMENT[name].version for name in config.metrics},
        "nas_site": config.nas_site,
        "nav_site": config.nav_site,
        "special_tokens": config.special_tokens,
        "template": config.template,
        "batch_tokens": config.batch_tokens,
        "max_length": config.max_length,
        "stack": config.stack,
        "neuron_modules": _named(config.neuron_modules),
    }


def model_part(model: nn.Module, tokenizer: str, states: str, layers: int) -> dict[str, Any]:
    """What must be equal within a curve. ``states``: the dtype in which the neurons computed."""
    base = base_of(model)
    config = text_config(model)
    parameter = next(iter(model.parameters()), None)
    return {
        "class": type(base).__name__.removeprefix("FSDP"),
        "type": getattr(getattr(base, "config", None), "model_type", None),
        "layers": layers,
        "hidden_size": getattr(config, "hidden_size", None),
        "vocabulary": getattr(config, "vocab_size", None),
        "tokenizer": tokenizer,
        "weights": str(getattr(parameter, "dtype", None)).removeprefix("torch."),
        "states": states,
        "attention": getattr(config, "_attn_implementation", None),
    }


def environment(device: torch.device, batch_tokens: int) -> dict[str, Any]:
    """What is noted only."""
    transformers = sys.modules.get("transformers")
    return {
        "neuronxa_callback": __version__,
        "torch": torch.__version__,
        "transformers": getattr(transformers, "__version__", None),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "products": str(alignment.widest(device)).removeprefix("torch."),
        "batch_tokens": batch_tokens,
    }


def _named(override: Any) -> str | dict[str, str] | None:
    """A pattern as it is; a function as its name and a hash of what it does."""
    if override is None or isinstance(override, str):
        return override
    name = getattr(override, "__qualname__", type(override).__qualname__)
    words = repr(_content(override, ()))
    return {"function": name, "code": hashlib.sha256(words.encode()).hexdigest()[:16]}


def _content(value: Any, around: tuple[int, ...]) -> Any:
    """What a function is made of, equal in every process: no addresses, no order of sets.

    Of other objects only the type counts: what they hold may change from probe to probe.

    ``around``: the objects that this one is part of, since a function may hold itself.
    """
    if isinstance(value, str | bytes | int | float | complex | None | range | re.Pattern):
        return value
    if id(value) in around:
        return "itself"
    inside = partial(_content, around=(*around, id(value)))
    if isinstance(value, set | frozenset):
        return sorted(repr(inside(each)) for each in value)
    if isinstance(value, dict):
        value = list(value.items())
    parts = value if isinstance(value, list | tuple) else _parts(value)
    return (type(value).__qualname__, *map(inside, parts))


def _parts(value: Any) -> Sequence[Any]:
    if isinstance(value, CodeType):
        return (value.co_code, value.co_names, value.co_consts)
    if isinstance(value, FunctionType):
        held = [cell.cell_contents for cell in value.__closure__ or ()]
        return (value.__code__, value.__defaults__, value.__kwdefaults__, held)
    if isinstance(value, partial):
        return (value.func, value.args, value.keywords)
    called = getattr(value, "__func__", getattr_static(type(value), "__call__", None))
    return (called,) if isinstance(called, FunctionType) else ()


Fingerprint = Mapping[str, Mapping[str, Any]]
