"""Models in GGUF files: transformers reads them and turns quantized weights into floats."""

import importlib.util
from pathlib import Path
from typing import Any

from neuronxa_callback.errors import ConfigError

SUFFIX = ".gguf"


def gguf_file_of(name: str) -> Path | None:
    """The GGUF file that a name means: the file itself, or the only model in a folder.

    Raises:
        ConfigError: If the folder holds several GGUF files, or the package gguf is missing.
    """
    path = Path(name)
    if path.suffix == SUFFIX and path.is_file():
        return _readable(path)
    if not path.is_dir() or (path / "config.json").is_file():
        return None
    files = sorted(file for file in path.iterdir() if file.suffix == SUFFIX)
    if len(files) > 1:
        raise ConfigError(
            f"{name} must hold one GGUF file, got {len(files)}; name one of them:"
            f" {', '.join(map(str, files))}"
        )
    return _readable(files[0]) if files else None


def pretrained(name: str) -> tuple[str, dict[str, Any]]:
    """The first argument of ``from_pretrained``, and the option that a GGUF file needs.

    >>> pretrained("gpt2")
    ('gpt2', {})
    """
    file = gguf_file_of(name)
    return (name, {}) if file is None else (str(file.parent), {"gguf_file": file.name})


def formats_of(file: Path) -> tuple[str, ...]:
    """The formats of the weights in a GGUF file, such as ``Q4_K``, the most frequent first."""
    from gguf import GGUFReader

    formats = [tensor.tensor_type.name for tensor in GGUFReader(file).tensors]
    return tuple(sorted(set(formats), key=lambda name: (-formats.count(name), name)))


def _readable(file: Path) -> Path:
    if importlib.util.find_spec("gguf") is None:
        raise ConfigError(
            f"{file} is a GGUF file, which needs the package gguf: pip install"
            " 'neuronxa-callback[gguf]'"
        )
    return file
