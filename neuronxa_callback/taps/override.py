"""The user's own choice of down projections."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.stacked import is_experts
from neuronxa_callback.taps.modules import is_linear, modules_by_path, unwrapped_path

Override = str | Callable[[nn.Module], Iterable[str] | Mapping[str, str]] | None


def chosen_by_user(override: Override, model: nn.Module) -> dict[str, str] | None:
    """The down projections that the user names, each with its gate's module or ``""``.

    Raises:
        TapError: If a path does not exist in the model, or nothing is named.
    """
    if override is None:
        return None
    modules = modules_by_path(model)
    if isinstance(override, str):
        pattern = re.compile(override)
        chosen = {
            path: ""
            for path, module in modules.items()
            if pattern.search(path) and (is_linear(module) or is_experts(module))
        }
    else:
        answer: Any = override(model)
        pairs = answer.items() if isinstance(answer, Mapping) else ((path, "") for path in answer)
        chosen = {unwrapped_path(path): unwrapped_path(gate) for path, gate in pairs}
    unknown = [path for pair in chosen.items() for path in pair if path and path not in modules]
    if unknown or not chosen:
        problem = f"{unknown[0]!r} does not exist" if chosen else f"{override!r} matches none"
        raise TapError(
            f"neuron_modules must name down projections of {type(model).__name__}, but {problem}; "
            "print model.named_modules() for the paths"
        )
    return chosen
