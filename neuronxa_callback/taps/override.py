"""Where the user says that the neurons are."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.modules import clean, is_linear, named
from neuronxa_callback.taps.stacked_experts import is_experts

Override = str | Callable[[nn.Module], Iterable[str] | Mapping[str, str]] | None


def given_by(override: Override, model: nn.Module) -> dict[str, str] | None:
    """Down projections as the user names them, each with its gate's module or ``""``."""
    if override is None:
        return None
    modules = named(model)
    if isinstance(override, str):
        pattern = re.compile(override)
        fits = {path: "" for path, each in modules.items() if pattern.search(path)}
        found = {path: "" for path in fits if is_linear(modules[path]) or is_experts(modules[path])}
    else:
        answer: Any = override(model)
        pairs = answer.items() if isinstance(answer, Mapping) else ((path, "") for path in answer)
        found = {clean(path): clean(gate) for path, gate in pairs}
    unknown = [path for pair in found.items() for path in pair if path and path not in modules]
    if unknown or not found:
        what = f"{override!r} matches none" if not found else f"{unknown[0]!r} is none"
        raise TapError(
            f"neuron_modules must name down projections of {type(model).__name__}, {what} of them"
        )
    return found
