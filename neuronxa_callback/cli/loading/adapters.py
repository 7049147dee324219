"""Adapters of PEFT over one base model: all of their weights are loaded, or it is an error."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from neuronxa_callback.errors import ConfigError

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.*"


def adapter_base(name: str) -> str | None:
    """The base model of the adapters in a folder; None if it holds no adapters."""
    file = Path(name) / ADAPTER
    if not file.is_file():
        return None
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return str(base) if base else None


def load_adapters(model: nn.Module, folder: Path) -> nn.Module:
    """The base model with the adapters of a folder.

    Raises:
        ConfigError: If weights are missing or left over: the scores would be the base model's.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from peft.utils.save_and_load import load_peft_weights

    if not any(folder.glob(ADAPTER_WEIGHTS)):
        raise ConfigError(
            f"{folder} must hold the weights of its adapters ({ADAPTER_WEIGHTS}), it holds none"
        )
    saved = load_peft_weights(str(folder), device="cpu")
    with warnings.catch_warnings():
        # They name the keys that are missing, as the error does.
        warnings.simplefilter("ignore")
        try:
            adapted: nn.Module = PeftModel.from_pretrained(model, str(folder))
        except KeyError as error:
            raise ConfigError(unmatched(folder, error.args, ())) from error
        expected = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    # Embeddings that were trained beside the adapters are weights of the base model.
    known = {*expected, *adapted.state_dict()}
    missing, unexpected = sorted({*expected} - {*saved}), sorted({*saved} - known)
    if missing or unexpected:
        raise ConfigError(unmatched(folder, missing, unexpected))
    return adapted


def unmatched(name: object, missing: Sequence[object], unexpected: Sequence[object]) -> str:
    """An error message for weights that a model needs, and those that it has no place for.

    Example:
        >>> print(unmatched("run", ["a", "b"], ["_orig_mod.a"]))  # doctest: +NORMALIZE_WHITESPACE
        run must hold all weights that its neurons depend on, 2 are missing, such as a, b, and 1
        have no place, such as _orig_mod.a: scores of random weights mean nothing
    """
    problems = [
        f"{len(keys)} {problem}, such as {', '.join(map(str, keys[:3]))}"
        for keys, problem in ((missing, "are missing"), (unexpected, "have no place"))
        if keys
    ]
    return (
        f"{name} must hold all weights that its neurons depend on, {', and '.join(problems)}:"
        " scores of random weights mean nothing"
    )
