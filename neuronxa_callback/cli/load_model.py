"""A saved model with its tokenizer: a folder, adapters, a name on the hub; never half of one."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from neuronxa_callback.errors import ConfigError, NeuronXAError, unknown

ADAPTER = "adapter_config.json"
WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model*")
HEADS = re.compile(r"(^|\.)(lm_head|pooler|cls|score|classifier|qa_outputs|predictions)(\.|$)")
"""Weights that no neuron reads: they may be missing."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded."""

    dtype: str = "auto"
    device: str | None = None
    device_map: str | None = None
    revision: str | None = None
    attention: str | None = None
    tokenizer: str | None = None
    trust: bool = False
    """Whether code that comes with a model may run."""

    def __post_init__(self) -> None:
        if self.dtype != "auto" and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            known = ("auto", "float32", "bfloat16", "float16")
            raise ConfigError(unknown("dtype", self.dtype, known))

    @property
    def chosen_device(self) -> torch.device:
        """The device that was asked for, or the best there is."""
        if self.device is not None:
            with as_config_error(self.device, "a device must be cpu, cuda, cuda:1 or the like"):
                return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load(name: str, how: LoadOptions) -> nn.Module:
    """The model of a folder or of the hub, in eval mode.

    Raises:
        ConfigError: If there is none, its weights are in pieces, or some of them are missing.
    """
    silence_transformers()
    _place(name)
    with as_config_error(name):
        adapted = (Path(name) / ADAPTER).is_file()
        model = _with_adapters(Path(name), how) if adapted else _whole(name, how)
    if how.device_map is None:
        model = model.to(how.chosen_device)
    return model.eval()


def refuse_absent(name: str, how: LoadOptions) -> None:
    """Refuse what is no model, before anything else is asked of it.

    Raises:
        ConfigError: If there is none, or its weights are in pieces.
    """
    silence_transformers()
    _place(name)
    with as_config_error(name):
        _config(base_of_adapters(name) or name, how)


def tokenizer_of(name: str, how: LoadOptions, *others: str | Path) -> Any:
    """The tokenizer that was asked for, or the one beside the model, or in one of ``others``.

    Raises:
        ConfigError: If there is none.
    """
    base = base_of_adapters(name)
    beside = (name, *map(str, others), *((base,) if base else ()))
    places = (how.tokenizer,) if how.tokenizer else tuple(dict.fromkeys(beside))
    cause = ""
    for place in places:
        try:
            return AutoTokenizer.from_pretrained(
                place, revision=how.revision, trust_remote_code=how.trust
            )
        except Exception as error:
            cause = _first_line(error)
    raise ConfigError(
        f"a tokenizer must be saved with the model, got none in {' or '.join(map(repr, places))}"
        f" ({cause}); name one with --tokenizer"
    )


def base_of_adapters(name: str) -> str | None:
    """The model that the adapters in a folder belong to; None where there are none."""
    file = Path(name) / ADAPTER
    if not file.is_file():
        return None
    base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return str(base) if base else None


def refuse_pieces(folder: Path) -> None:
    """Refuse a checkpoint whose weights are spread over files of ranks.

    Raises:
        ConfigError: With the command that puts them together.
    """
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return
    pieces = sorted({file.parent for file in folder.glob("**/*.distcp")})
    weights = next((each for each in pieces if "optim" not in each.name), None)
    if weights is not None:
        raise ConfigError(
            f"{folder} must hold whole weights, got FSDP's pieces;"
            f" merge them: accelerate merge-weights {weights} {folder}"
        )
    script = folder / "zero_to_fp32.py"
    if script.is_file():
        raise ConfigError(
            f"{folder} must hold whole weights, got DeepSpeed's pieces; merge them:"
            f" python {script} {folder} {folder} --safe_serialization"
        )
    if not (folder / "config.json").is_file() and not (folder / ADAPTER).is_file():
        raise ConfigError(
            f"a model's folder must hold config.json or {ADAPTER}, {str(folder)!r} holds neither"
        )


@contextmanager
def as_config_error(
    name: str, must: str = "a model must be a folder or a name on the hub that can be loaded"
) -> Iterator[None]:
    """Errors of loading, of whatever kind and length, as one sentence."""
    try:
        yield
    except NeuronXAError:
        raise
    except Exception as cause:
        # Any: what reads weights raises errors of its own, such as safetensors'.
        raise ConfigError(f"{must}, got {name!r}: {_first_line(cause)}") from cause


def _first_line(cause: Exception) -> str:
    return str(cause).strip().split("\n", 1)[0].strip() or type(cause).__name__


def _place(name: str) -> None:
    """Refuse what is neither a folder that may hold a model nor a name on the hub."""
    folder = Path(name)
    if folder.is_dir():
        refuse_pieces(folder)
    elif folder.is_absolute() or len(folder.parts) > 2 or name.startswith("."):
        raise ConfigError(f"a model must be a folder or a name on the hub, {name!r} is neither")


def _config(name: str, how: LoadOptions) -> Any:
    return AutoConfig.from_pretrained(name, revision=how.revision, trust_remote_code=how.trust)


def silence_transformers() -> None:
    """What matters of what transformers says in loading is said here, in a sentence."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def _whole(name: str, how: LoadOptions) -> nn.Module:
    common = {"revision": how.revision, "trust_remote_code": how.trust}
    config = _config(name, how)
    options: dict[str, Any] = {"dtype": how.dtype, **common}
    if how.attention is not None:
        options["attn_implementation"] = how.attention
    if how.device_map is not None:
        options["device_map"] = how.device_map
    made, info = class_of(config, how.trust).from_pretrained(
        name, output_loading_info=True, **options
    )
    _refuse_holes(name, info)
    model: nn.Module = made
    return model


def class_of(config: Any, trust: bool) -> Any:
    """The class that was saved, so that a sweep measures what training had."""
    if trust and getattr(config, "auto_map", None):
        return AutoModelForCausalLM
    names = getattr(config, "architectures", None) or ()
    found = next((getattr(transformers, each, None) for each in names), None)
    return found if found is not None else AutoModel


def _refuse_holes(name: str, info: Mapping[str, Any]) -> None:
    holes = [key for key in sorted(info["missing_keys"]) if not HEADS.search(key)]
    if holes:
        raise ConfigError(
            f"{name} must hold all weights that its neurons depend on, {len(holes)} are missing,"
            f" such as {holes[0]}: what is random gives a curve that means nothing"
        )


def _with_adapters(folder: Path, how: LoadOptions) -> nn.Module:
    try:
        from peft import PeftModel
    except ImportError:
        raise ConfigError(f"{folder} holds adapters: pip install peft") from None
    base = base_of_adapters(str(folder))
    if base is None:
        raise ConfigError(f"{folder / ADAPTER} must name base_model_name_or_path, it does not")
    with as_config_error(base):
        whole = _whole(base, how)
    model: nn.Module = PeftModel.from_pretrained(whole, str(folder))
    return model
