"""What the values of options mean: names split at commas, options of a probe, files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neuronxa_callback.errors import ConfigError, reason


def probe_options(
    corpus: str | None,
    config_file: Path | None,
    languages: Sequence[str] | None,
    n_pairs: int | None,
    metrics: Sequence[str] | None,
    groups: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Options of ``ProbeConfig`` from the command line, else from the configuration file.

    Raises:
        ConfigError: If the file cannot be read or has an unknown option.
    """
    from neuronxa_callback.config import ProbeConfig

    from_file: dict[str, Any] = {}
    if config_file is not None:
        config = ProbeConfig.from_toml(config_file)
        from_file = {name: getattr(config, name) for name in _toml_keys(config_file)}
    command_line = {
        "corpus": None if corpus is None else _corpus_option(corpus),
        "languages": split_names(languages),
        "n_pairs": n_pairs,
        "metrics": split_names(metrics),
        "groups": parse_groups(groups),
    }
    return from_file | {name: value for name, value in command_line.items() if value is not None}


def _toml_keys(file: Path) -> list[str]:
    import tomllib

    return list(tomllib.loads(file.read_text(encoding="utf-8")))


def _corpus_option(corpus: str) -> str | dict[str, str]:
    from neuronxa_callback.corpus.readers import detect

    return corpus if is_builtin(corpus) else {"reader": detect.guess(corpus), "path": corpus}


def is_builtin(corpus: str) -> bool:
    """Whether a corpus is one of those in the package.

    >>> is_builtin("builtin:test"), is_builtin("flores/dev")
    (True, False)
    """
    return corpus.partition(":")[0] == "builtin"


def split_names(values: Sequence[str] | None) -> tuple[str, ...] | None:
    """The names in all values of an option, split at commas, each once; None without a value.

    >>> split_names(["de, fra,", "sw", "de"])
    ('de', 'fra', 'sw')
    """
    if not values:
        return None
    names = (name.strip() for value in values for name in value.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def parse_groups(values: Sequence[str] | None) -> list[str | dict[str, list[str]]] | None:
    """The option ``--groups`` as ``ProbeConfig.groups``; None without a value.

    >>> parse_groups(["script,mine=de+sw"])
    ['script', {'mine': ['de', 'sw']}]
    """
    names = split_names(values)
    if names is None:
        return None
    parts = [name.partition("=") for name in names]
    return [
        {name.strip(): [code.strip() for code in members.split("+") if code.strip()]}
        if equals
        else name
        for name, equals, members in parts
    ]


def saved_step(model: str) -> int:
    """The step at which the Trainer saved a checkpoint; 0 if it is unknown.

    Raises:
        ConfigError: If the file that the Trainer saved is damaged.
    """
    file = Path(model) / "trainer_state.json"
    if not file.is_file():
        return 0
    try:
        return int(json.loads(file.read_text(encoding="utf-8")).get("global_step", 0))
    except (ValueError, TypeError, AttributeError, OSError, OverflowError, RecursionError) as cause:
        raise ConfigError(
            f"{file} must be an object with a global_step, as the Trainer saves it: {reason(cause)}"
        ) from None


def require_parent(out: Path) -> None:
    """Check that the folder of an output file exists.

    Raises:
        ConfigError: If it does not.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"the folder of --out must exist, there is no {str(out.parent)!r}")
