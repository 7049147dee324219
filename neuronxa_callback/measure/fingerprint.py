"""What was measured, of what, and where: the three parts by which reports may meet or not."""

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from neuronxa_callback._version import __version__
from neuronxa_callback.corpus.pairs import ParallelCorpus
from neuronxa_callback.measure import alignment
from neuronxa_callback.measure.batching import Tokenised
from neuronxa_callback.measure.config import ProbeConfig
from neuronxa_callback.measure.forward import base_of, text_config
from neuronxa_callback.measure.metrics import ALIGNMENT

METHOD = 1
"""Rises whenever a score of the same states changes."""


def definition(config: ProbeConfig, corpus: ParallelCorpus, tokenised: Tokenised) -> dict[str, Any]:
    """What must be equal wherever two reports meet."""
    pairs = json.dumps(tokenised.pairs, ensure_ascii=False, sort_keys=True)
    override = config.neuron_modules
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
        "neuron_modules": override if isinstance(override, str) else _named(override),
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


def _named(override: Any) -> str | None:
    return None if override is None else getattr(override, "__qualname__", repr(override))


Fingerprint = Mapping[str, Mapping[str, Any]]
