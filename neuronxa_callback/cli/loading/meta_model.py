"""Build a model from its configuration alone, without weights."""

from typing import Any

import torch
from torch import nn
from transformers import AutoModel

from neuronxa_callback.cli.load_model import (
    LoadOptions,
    as_config_error,
    load_config,
    model_class,
)


def build_on_meta(name: str, load_options: LoadOptions) -> nn.Module:
    """A model on the meta device, in eval mode: it has shapes but no weights.

    Raises:
        ConfigError: If the configuration cannot be loaded or the model cannot be built.
    """
    with as_config_error(name):
        config = load_config(name, load_options)
        architecture: Any = model_class(config, load_options.trust_remote_code)
        has_builder = hasattr(architecture, "_from_config")
        build = architecture._from_config if has_builder else AutoModel.from_config
        with torch.device("meta"):
            # Other implementations of attention read the values of the mask.
            model: nn.Module = build(config, attn_implementation="eager")
    return model.eval()
