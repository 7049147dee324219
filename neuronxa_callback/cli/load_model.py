"""Load a saved model and its tokenizer from a folder, with or without adapters, or from the hub.

A model is loaded whole or not at all: missing weights would be random, and so would its scores.
"""

import copy
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
import typer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from neuronxa_callback.cli.loading.adapters import ADAPTER, adapter_base, load_adapters, unmatched
from neuronxa_callback.cli.loading.gguf_files import formats_of, gguf_file_of, pretrained
from neuronxa_callback.cli.options import SHOW_PLACE
from neuronxa_callback.errors import ConfigError, NeuronXAError, unknown

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "adapter_model*")
HEADS = re.compile(r"(^|\.)(lm_head|pooler|cls|score|classifier|qa_outputs|predictions)(\.|$)")
"""Weights that come after all neurons, so they may be missing."""


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Raises:
        ConfigError: If the dtype is unknown.
    """

    dtype: str = "auto"
    """``auto`` (as saved) or the name of a torch dtype."""
    device: str | None = None
    device_map: str | None = None
    revision: str | None = None
    attention: str | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    """Whether to run Python code that comes with the model."""

    def __post_init__(self) -> None:
        if self.dtype != "auto" and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            known = ("auto", "float32", "bfloat16", "float16")
            raise ConfigError(unknown("dtype", self.dtype, known))

    @property
    def chosen_device(self) -> torch.device:
        """The given device; the default is a GPU if there is one, else the CPU.

        Raises:
            ConfigError: If the given device is unknown.
        """
        if self.device is not None:
            with as_config_error(self.device, "a device must be cpu, cuda, cuda:1 or the like"):
                return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def hub(self) -> dict[str, Any]:
        """The keyword arguments of every ``from_pretrained``."""
        return {"revision": self.revision, "trust_remote_code": self.trust_remote_code}


BaseModels = dict[str, nn.Module]
"""The base model of adapters by its name and revision, as loaded; each checkpoint gets a copy."""


def load_model(name: str, load_options: LoadOptions, bases: BaseModels | None = None) -> nn.Module:
    """Load a model from a folder or from the hub, in eval mode.

    Args:
        name: The folder, or the name on the hub.
        load_options: How it is loaded.
        bases: Keeps the base model of adapters for the next call with the same options.

    Raises:
        ConfigError: If there is no such model, or some of its weights are missing.
    """
    silence_transformers()
    _require_location(name)
    with as_config_error(name):
        if (Path(name) / ADAPTER).is_file():
            model = _load_with_adapters(Path(name), load_options, bases)
        else:
            model = _load_whole(name, load_options)
    if load_options.device_map is None:
        model = model.to(load_options.chosen_device)
    return model.eval()


def require_model(name: str, load_options: LoadOptions) -> None:
    """Check that a model exists, without loading its weights.

    Raises:
        ConfigError: If there is no such model, or its weights are in several parts.
    """
    silence_transformers()
    _require_location(name)
    with as_config_error(name):
        load_config(adapter_base(name) or name, load_options)


def load_config(name: str, load_options: LoadOptions) -> Any:
    """The configuration of a model in a folder, in a GGUF file or on the hub."""
    location, gguf = pretrained(name)
    return AutoConfig.from_pretrained(location, **gguf, **load_options.hub)


def load_tokenizer(name: str, load_options: LoadOptions, *fallbacks: str) -> Any:
    """Load the tokenizer of ``load_options``; by default that of the model.

    Args:
        name: The model.
        load_options: Names the tokenizer, its revision and whether its code may run.
        fallbacks: Where else the model's tokenizer may be, such as the folder of the run.

    Raises:
        ConfigError: If there is no tokenizer.
    """
    base = adapter_base(name)
    candidates = [load_options.tokenizer] if load_options.tokenizer else [name, *fallbacks, base]
    locations = list(dict.fromkeys(location for location in candidates if location))
    reason = ""
    for location in locations:
        try:
            folder, gguf = pretrained(location)
            return AutoTokenizer.from_pretrained(folder, **gguf, **load_options.hub)
        except Exception as error:
            reason = _first_line(error)
    raise ConfigError(
        f"no tokenizer in {' or '.join(map(repr, locations))} ({reason}); name one with --tokenizer"
    )


def require_whole_weights(folder: Path) -> None:
    """Check that a checkpoint's weights are all there, and not in one part per rank.

    Raises:
        ConfigError: If they are in parts, with the command that merges them; if a file of weights
            is missing; or if there is no model.
    """
    for index in sorted(folder.glob("*.index.json")):
        with as_config_error(str(index), "an index of weights must be readable"):
            files = {*json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        missing = sorted(name for name in files if not (folder / name).is_file())
        if missing:
            raise ConfigError(
                f"{folder} must hold the {len(files)} files of weights that {index.name} names,"
                f" {len(missing)} are missing, such as {missing[0]}"
            )
    if any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        return
    fsdp_folders = sorted({file.parent for file in folder.glob("**/*.distcp")})
    weights = next((path for path in fsdp_folders if "optim" not in path.name), None)
    if weights is not None:
        raise ConfigError(
            f"{folder} must hold whole weights, got one part per rank from FSDP;"
            f" merge them: accelerate merge-weights {weights} {folder}"
        )
    script = folder / "zero_to_fp32.py"
    if script.is_file() or any(folder.glob("**/*_model_states.pt")):
        program = script if script.is_file() else "-m deepspeed.utils.zero_to_fp32"
        raise ConfigError(
            f"{folder} must hold whole weights, got one part per rank from DeepSpeed; merge them:"
            f" python {program} {folder} {folder} --safe_serialization"
        )
    if not (folder / "config.json").is_file() and not (folder / ADAPTER).is_file():
        raise ConfigError(
            f"a model's folder must hold config.json or {ADAPTER}, {str(folder)!r} holds neither"
        )


@contextmanager
def as_config_error(
    name: str,
    expected: str = "a model must be a folder or a name on the hub that can be loaded",
) -> Iterator[None]:
    """Raise errors of any kind as a ``ConfigError`` of one sentence."""
    try:
        yield
    except NeuronXAError:
        raise
    except Exception as cause:
        # Any kind: libraries that read weights, such as safetensors, raise errors of their own.
        raise ConfigError(f"{expected}, got {name!r}: {_first_line(cause)}") from cause


def silence_transformers() -> None:
    """Turn off transformers' warnings and bars: this module reports problems itself."""
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def model_class(config: Any, trust_remote_code: bool) -> Any:
    """The class that was saved, so that a sweep measures the model that was trained."""
    if trust_remote_code and getattr(config, "auto_map", None):
        return AutoModelForCausalLM
    names = getattr(config, "architectures", None) or ()
    classes = (getattr(transformers, name, None) for name in names)
    return next(classes, None) or AutoModel


def _first_line(cause: Exception) -> str:
    """The first line of an error; two if the first one announces the other."""
    if isinstance(cause, TypeError | AttributeError | LookupError):
        # Such as "'NoneType' object is not subscriptable", from inside another library.
        return f"one of its files may be damaged or of another version; {SHOW_PLACE}"
    first, _, rest = str(cause).strip().partition("\n")
    more = rest.strip().partition("\n")[0].strip() if first.rstrip().endswith(":") else ""
    return " ".join((first.strip(), more)).strip() or type(cause).__name__


def _require_location(name: str) -> None:
    """Refuse a name that is neither a model's folder or file nor possible on the hub."""
    if gguf_file_of(name) is not None:
        return
    folder = Path(name)
    if folder.is_dir():
        require_whole_weights(folder)
    elif folder.is_absolute() or len(folder.parts) > 2 or name.startswith("."):
        raise ConfigError(f"a model must be a folder or a name on the hub, {name!r} is neither")


def _load_whole(name: str, load_options: LoadOptions) -> nn.Module:
    location, gguf = pretrained(name)
    config = load_config(name, load_options)
    dtype = "float32" if gguf and load_options.dtype == "auto" else load_options.dtype
    if gguf:
        formats = ", ".join(formats_of(Path(location) / gguf["gguf_file"]))
        typer.echo(f"{name}: weights in {formats} are read as {dtype}", err=True)
    optional = {
        "attn_implementation": load_options.attention,
        "device_map": load_options.device_map,
    }
    model: nn.Module
    model, info = model_class(config, load_options.trust_remote_code).from_pretrained(
        location,
        output_loading_info=True,
        dtype=dtype,
        **gguf,
        **load_options.hub,
        **{key: value for key, value in optional.items() if value is not None},
    )
    _require_all_weights(name, info)
    return model


def _require_all_weights(name: str, info: Mapping[str, Any]) -> None:
    missing = [key for key in sorted(info["missing_keys"]) if not HEADS.search(key)]
    if missing:
        raise ConfigError(unmatched(name, missing, sorted(info["unexpected_keys"])))


def _load_with_adapters(
    folder: Path, load_options: LoadOptions, bases: BaseModels | None
) -> nn.Module:
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(f"{folder} holds adapters, which need peft: pip install peft")
    base = adapter_base(str(folder))
    if base is None:
        raise ConfigError(f"{folder / ADAPTER} must name base_model_name_or_path, it does not")
    with as_config_error(base):
        base_model = _load_base(base, load_options, bases)
    return load_adapters(base_model, folder)


def _load_base(base: str, load_options: LoadOptions, bases: BaseModels | None) -> nn.Module:
    """A base model that adapters may change."""
    key = f"{base}@{load_options.revision}"
    if bases is not None and key in bases:
        return copy.deepcopy(bases[key])
    model = _load_whole(base, load_options)
    # Quantized or spread over devices, a copy is not sure to be the same.
    is_plain = load_options.device_map is None and getattr(model, "hf_quantizer", None) is None
    if bases is None or not is_plain:
        return model
    bases.clear()
    bases[key] = model
    return copy.deepcopy(model)
