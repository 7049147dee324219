"""Measures of one's own: how a metric is described, and how its functions run in a probe.

A function that fails is a fault: it is kept with the name of its measure and never raised.
Functions get copies, so they can change no other number.

Axes: ``batch`` sentences of a microbatch, ``tokens`` of a padded sentence, ``width`` neurons of one
part of a layer, ``layers``, ``pairs``.
"""

import logging
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics import alignment
from neuronxa_callback.option_checks import require, require_integer

PLACES = ("gate", "product", "hidden")
"""Where a metric may read states."""
MOST_VALUES = 100_000
"""The most numbers and texts of one result; it is written into the record at every probe."""


def position_weights(mask: Tensor, special: Tensor) -> Tensor:
    """The default weights of tokens, as of NASCA: 1, 2, .., T.

    >>> position_weights(torch.tensor([[True, True, False]]), torch.zeros(1, 3)).tolist()
    [[1.0, 2.0, 0.0]]
    """
    return alignment.positions(mask)


@dataclass(frozen=True)
class Metric:
    """How a sentence becomes a vector in a layer, and how similar two vectors are.

    The vector of a sentence with states s_tj (token t, neuron j) is
    ``vector(sum_t w_t value(s_tj))``. Pairs are scored by weak alignment, as for NASCA: pair i is
    aligned if its similarity is above all others of its row and of its column.

    Raises:
        ConfigError: If a field has a wrong type.

    Example:
        >>> metric = Metric(site="product", value=torch.relu)
        >>> metric.version
        1
    """

    site: str = "gate"
    """``"gate"`` (behind the activation function), ``"product"`` (input of the down projection), or
    ``"hidden"`` (hidden states as transformers returns them)."""
    value: Callable[[Tensor], Tensor] = torch.clone
    """fp32 states of any shape -> values of the same shape, each from its state alone. In a mixture
    of experts, neurons of experts that a token is not routed to have no state and add nothing."""
    weights: Callable[[Tensor, Tensor], Tensor] = position_weights
    """(mask, special), bool [batch, tokens] each: True at tokens, and at special tokens such as BOS
    -> weights [batch, tokens]. Padding always weighs 0."""
    vector: Callable[[Tensor], Tensor] = torch.clone
    """fp32 sums [batch, width] -> the vectors, neuron by neuron."""
    similarity: Callable[[Tensor, Tensor, Tensor], Tensor] = alignment.cosines
    """(dot, pivot, target): dot products [layers, pairs, pairs] of pivot sentence i and translation
    j, squared lengths [layers, pairs] of either side, fp64 -> similarities [layers, pairs, pairs].
    NaN or infinity makes a layer NaN. Above 1 in size, a layer is divided by its largest value, so
    that ties are found; no order changes."""
    version: int = 1
    """Raise it whenever the numbers change: reports of another version are not compared."""

    def __post_init__(self) -> None:
        require(self.site in PLACES, "site", f"one of {', '.join(PLACES)}", self.site)
        for name in ("value", "weights", "vector", "similarity"):
            require(callable(getattr(self, name)), name, "a function", getattr(self, name))
        require_integer("version", self.version, 1)


@dataclass(frozen=True)
class Compared:
    """What a diagnostic gets: one metric of one language, with all similarities."""

    metric: str
    language: str
    similarity: Tensor
    """[layers, pairs, pairs]: of pivot sentence i and translation j; NaN where states are NaN."""
    pairs: tuple[tuple[str, str], ...]
    """(pivot sentence, translation), in the order of the rows."""


class Faults:
    """What has failed in a probe: the name of a measure -> the first error of its functions."""

    def __init__(self) -> None:
        self.messages: dict[str, str] = {}
        self._told: set[str] = set()

    def begin(self) -> None:
        """Forget the faults of the previous probe."""
        self.messages.clear()

    def sort(self, owners: Iterable[str]) -> None:
        """Put the faults in the order of all measures, which is the same on every rank."""
        self.messages = {each: self.messages[each] for each in owners if each in self.messages}

    def run(self, owner: str, function: Callable[[], Any]) -> Any:
        """The result of a function; None if it fails, or if ``owner`` has failed before."""
        if owner in self.messages:
            return None
        try:
            return function()
        except Exception as error:
            self.messages[owner] = f"{type(error).__name__}: {error}".partition("\n")[0]
            return None

    def lines(self) -> tuple[str, ...]:
        """One sentence per fault, for the warnings of a report."""
        return tuple(
            f"{owner} failed, so this report has no numbers of it: {message}"
            for owner, message in self.messages.items()
        )

    def warn(self, log: logging.Logger) -> None:
        """Log those of ``lines`` that were not logged before."""
        for line in self.lines():
            if line not in self._told:
                log.warning("%s", line)
                self._told.add(line)


class OwnMetric:
    """A metric of one's own in a probe: its functions on copies, NaN where they fail.

    Args:
        name: Its name.
        metric: Its functions.
        faults: Where its errors go.

    Example:
        >>> faults = Faults()
        >>> half = OwnMetric("half", Metric(value=lambda states: states[:1]), faults)
        >>> half.values(torch.ones(2, 1), used=torch.ones(2, 1)).tolist()
        [[nan], [nan]]
        >>> faults.messages["the metric 'half'"]
        'ValueError: value must return a tensor [2, 1] of numbers, got a tensor [1, 1]'
    """

    def __init__(self, name: str, metric: Metric, faults: Faults) -> None:
        self.name, self.metric, self.faults = name, metric, faults
        self.owner = owner_of("metric", name)

    def weights(self, mask: Tensor, special: Tensor) -> Tensor:
        """Weights of tokens [batch, tokens], fp32, 0 at padding."""
        found = self._run("weights", tuple(mask.shape), torch.float32, mask, special)
        return torch.where(mask, found, 0.0)

    def values(self, states: Tensor, used: Tensor) -> Tensor:
        """Values of states, fp32; 0 where a token has no weight.

        Args:
            states: Of any shape and dtype.
            used: Weights that are broadcast over the states.
        """
        found = self._run("value", tuple(states.shape), torch.float32, states.float())
        return torch.where(used == 0, 0.0, found)

    def vector(self, sums: Tensor) -> Tensor:
        """Vectors from sums [batch, width], fp32; NaN stays NaN."""
        found = self._run("vector", tuple(sums.shape), torch.float32, sums)
        return torch.where(sums.isnan(), sums, found)

    def similarity(self, dot: Tensor, pivot: Tensor, target: Tensor) -> Tensor:
        """Similarities [layers, pairs, pairs] in [-1, 1], NaN for infinity."""
        found = self._run("similarity", tuple(dot.shape), dot.dtype, dot, pivot, target)
        found = found.masked_fill(found.isinf(), math.nan)
        # A NaN in the input stays NaN, whatever the function makes of it.
        lost = dot.isnan() | pivot.isnan()[..., :, None] | target.isnan()[..., None, :]
        largest = found.nan_to_num(0.0).abs().amax(dim=(-2, -1), keepdim=True)
        scaled: Tensor = found.masked_fill(lost, math.nan) / largest.clamp(min=1.0)
        return scaled

    def _run(
        self, name: str, shape: tuple[int, ...], dtype: torch.dtype, *arguments: Tensor
    ) -> Tensor:
        function, device = getattr(self.metric, name), arguments[0].device

        def checked() -> Tensor:
            with torch.no_grad(), alignment.full_precision(device):
                found = function(*(each.clone() for each in arguments))
            is_real = isinstance(found, Tensor) and not found.is_complex()
            if not is_real or tuple(found.shape) != shape:
                got = f"a tensor {[*found.shape]}" if is_real else type(found).__name__
                raise ValueError(f"{name} must return a tensor {[*shape]} of numbers, got {got}")
            result: Tensor = found.to(device, dtype)
            return result

        found = self.faults.run(self.owner, checked)
        if found is None:
            return torch.full(shape, math.nan, dtype=dtype, device=device)
        assert isinstance(found, Tensor)
        return found


def owner_of(kind: str, name: str, metric: str | None = None) -> str:
    """How a measure is named in messages.

    >>> owner_of("diagnostic", "hubs", "nasca")
    "the diagnostic 'hubs' of nasca"
    """
    return f"the {kind} {name!r}" + (f" of {metric}" if metric else "")


def plain_result(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, as JSON values."""
    return plain_value(function(*arguments))


def plain_value(value: Any) -> Any:
    """A result as JSON values: numbers, texts, lists and dictionaries; None for NaN and infinity.

    Raises:
        ConfigError: If it cannot be one, or is too large.

    Example:
        >>> plain_value({"layers": torch.tensor([0.5, float("nan")]), "n": 3})
        {'layers': [0.5, None], 'n': 3}
    """
    plain, count = _plain(value, 0)
    if count > MOST_VALUES:
        raise ConfigError(f"a result must have at most {MOST_VALUES} values, got {count}")
    return plain


def _plain(value: Any, depth: int) -> tuple[Any, int]:
    """The JSON value, and the number of numbers and texts in it."""
    if depth > 16:
        raise ConfigError("a result must be nested at most 16 deep")
    tolist = getattr(value, "tolist", None)
    if callable(tolist):  # tensors, arrays, and their scalars
        value = tolist()
    if isinstance(value, Mapping):
        parts = {str(key): _plain(part, depth + 1) for key, part in value.items()}
        return {key: part for key, (part, _) in parts.items()}, _total(parts.values())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        items = [_plain(part, depth + 1) for part in value]
        return [part for part, _ in items], _total(items)
    if value is None or isinstance(value, str | bool):
        return value, 1
    if isinstance(value, numbers.Integral) and abs(int(value)) < 2**63:
        return int(value), 1
    if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
        return (float(value) if math.isfinite(value) else None), 1
    raise ConfigError(
        "a result must be made of numbers of at most 64 bits, texts, lists and dictionaries, got"
        f" {type(value).__name__}"
    )


def _total(parts: Iterable[tuple[Any, int]]) -> int:
    return 1 + sum(count for _, count in parts)
