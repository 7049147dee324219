"""The measurement, the model and the environment of a report: which reports may be compared."""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import nn

from neuronxa_callback import extend
from neuronxa_callback._version import __version__
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.metrics import alignment
from neuronxa_callback.probe.batching import TokenizedCorpus
from neuronxa_callback.probe.forward import base_of, text_config
from neuronxa_callback.probe.tokenizer.chat_template import ChatTemplate
from neuronxa_callback.taps.plan import TapPlan

METHOD = 1
"""Rises whenever a score of the same states changes."""


def definition(
    config: ProbeConfig,
    corpus: ParallelCorpus,
    tokenized: TokenizedCorpus,
    chat: ChatTemplate | None = None,
) -> dict[str, Any]:
    """The measurement: must be equal wherever two reports are compared.

    Args:
        config: The options.
        corpus: The sentences.
        tokenized: The pairs that were measured.
        chat: The chat template; None if it is not used.
    """
    return {
        "method": METHOD,
        "corpus": corpus.name,
        "digest": pairs_digest(tokenized.pairs),
        "pivot": corpus.pivot,
        "shared_pivot": corpus.shared_pivot,
        "languages": sorted(corpus.languages),
        "n_pairs": config.n_pairs,
        "metrics": {name: extend.version_of(name) for name in config.metrics},
        "nas_site": config.nas_site,
        "nav_site": config.nav_site,
        "special_tokens": config.special_tokens,
        "template": config.template,
        "rendered_template": chat and f"{_digest(chat.rendered)} {chat.rendered[:80]!r}",
        "template_date": chat and chat.date,
        "lang_codes": config.lang_codes,
        "max_length": config.max_length,
        "stack": config.stack,
        "neuron_modules": _name_of_override(config.neuron_modules),
    }


def pairs_digest(pairs: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    """Identifies the measured pairs: language -> (pivot sentence, translation)."""
    return _digest(json.dumps(pairs, ensure_ascii=False, sort_keys=True))


def model_part(
    model: nn.Module,
    tokenizer: str,
    tokenized: TokenizedCorpus,
    states: str,
    plan: TapPlan,
    function: Any = None,
) -> dict[str, Any]:
    """The model: must be equal within a curve.

    Args:
        model: The model that was measured.
        tokenizer: The tokenizer's digest.
        tokenized: The token ids that were measured.
        states: The dtype in which the neurons computed.
        plan: Where its neurons were found.
        function: Calls the model, if its signature does not.
    """
    base = base_of(model)
    config = text_config(model)
    parameter = next(iter(model.parameters()), None)
    # Of the products only: sharding may let the same gate be read one module earlier.
    paths = [part.path for part in plan.parts]
    return {
        "class": type(base).__name__.removeprefix("FSDP"),
        "type": getattr(getattr(base, "config", None), "model_type", None),
        "layers": len(plan.layers),
        "hidden_size": getattr(config, "hidden_size", None),
        "vocabulary": getattr(config, "vocab_size", None),
        "modules": path_patterns(paths),
        "modules_digest": _digest("\n".join(paths)),
        "tokenizer": tokenizer,
        "token_ids": _digest(repr(token_ids(tokenized))),
        "weights": str(getattr(parameter, "dtype", None)).removeprefix("torch."),
        "states": states,
        "attention": getattr(config, "_attn_implementation", None),
        **({} if function is None else {"forward": qualified_name(function)}),
    }


def token_ids(tokenized: TokenizedCorpus) -> list[Any]:
    """Language, then (pivot ids, target ids) of each pair, sorted by language."""
    return [
        [name, [(pivot.ids, target.ids) for pivot, target in tokenized.pair_tokens(name)]]
        for name in sorted(tokenized.pairs)
    ]


def shared_work(
    config: ProbeConfig,
    corpus: ParallelCorpus,
    tokenized: TokenizedCorpus,
    batch_tokens: int,
    microbatches: Sequence[object],
) -> dict[str, object]:
    """What all ranks of a probe must have in common; the first difference is named."""
    options = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in ("corpus", "languages", "batch_tokens")
    }
    options["neuron_modules"] = _name_of_override(config.neuron_modules)
    return {
        **{f"the option {name}": value for name, value in options.items()},
        "the version of a metric": {name: extend.version_of(name) for name in config.metrics},
        "the list of languages": (corpus.pivot, *corpus.languages),
        "the list of pairs": {name: tokenized.pairs[name] for name in corpus.languages},
        "the list of token ids": token_ids(tokenized),
        "batch_tokens": batch_tokens,
        "the list of microbatches": list(microbatches),
    }


def environment(
    device: torch.device, batch_tokens: int, batched: bool, on_unproved: str, reduction: str
) -> dict[str, Any]:
    """Versions, hardware and microbatches: recorded, never compared along a curve."""
    transformers = sys.modules.get("transformers")
    return {
        "neuronxa_callback": __version__,
        "torch": torch.__version__,
        "transformers": getattr(transformers, "__version__", None),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "products": str(alignment.product_dtype(device)).removeprefix("torch."),
        "batch_tokens": batch_tokens,
        "batching": "together" if batched else "one sentence at a time",
        "on_unproved": on_unproved,
        "reduction": reduction,
    }


def path_patterns(paths: Sequence[str]) -> list[str]:
    """The distinct paths in order, with ``#`` in place of numbers.

    >>> path_patterns(["layers.0.mlp.down_proj", "layers.1.mlp.down_proj"])
    ['layers.#.mlp.down_proj']
    """
    return list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "#", path) for path in paths))


def _name_of_override(override: Any) -> str | dict[str, str] | None:
    """A pattern as it is; a function by its name. Which modules it chose is part of the model."""
    if override is None or isinstance(override, str):
        return override
    return {"function": qualified_name(override)}


def qualified_name(function: Any) -> str:
    """The name of a function in its module; of a callable object, the name of its class."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
