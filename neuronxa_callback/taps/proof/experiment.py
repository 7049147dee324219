"""Values of ours for the projections of a network, and how gate and product must follow them."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

COPIES = 9
"""Copies of a sentence in the forward."""
BASE, FIRST, SECOND, ALL, EVEN, ODD, OTHERS, SOME = range(8)
"""Copies by what is changed in them: nothing; the first or the second half of the columns of a
fused projection; everything; its even or odd columns; projections that are not fused; half of the
neurons. Without fused projections, copies from ``FIRST`` on change one projection each."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Dtype of the states -> relative difference that rounding allows."""
MAX_OUTLIERS = 0.01
"""Share of values that may differ by more: those near zero."""
MIN_FREE = 0.1
"""Smallest share of values that must be neither masked nor clamped to compare these alone."""
MAX_PROJECTIONS = 4
"""The most projections without a fused one that the copies can tell apart."""

CPU: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}


@dataclass(frozen=True)
class Experiment:
    """Which copy changes which columns of which projection."""

    widths: Mapping[str, int]
    """Path of each projection -> columns on this rank."""
    width: int
    """Neurons on this rank."""

    @property
    def fused(self) -> bool:
        """Whether a projection holds two columns per neuron."""
        return any(size == 2 * self.width for size in self.widths.values())

    def changed(self, path: str) -> Tensor:
        """[COPIES, columns], whether a copy changes a column."""
        size = self.widths[path]
        column = torch.arange(size, dtype=torch.long, device="cpu")
        changed = torch.zeros(COPIES, size, dtype=torch.bool, device="cpu")
        changed[ALL if self.fused else len(self.widths) + 1] = True
        if self.fused and size == 2 * self.width:
            first, even = column < size // 2, column % 2 == 0
            for copy, which in ((FIRST, first), (SECOND, ~first), (EVEN, even), (ODD, ~even)):
                changed[copy] = which
        elif self.fused:
            changed[OTHERS] = True
        else:
            changed[FIRST + list(self.widths).index(path)] = True
        changed[COPIES - 1] = self.some(column)
        return changed

    @property
    def too_many(self) -> bool:
        """Whether there are more projections than copies."""
        return not self.fused and len(self.widths) > MAX_PROJECTIONS

    def some(self, column: Tensor) -> Tensor:
        """Columns that change if half of the neurons do; the same for halves and alternation."""
        return (column // 2) % max(self.width // 2, 1) % 2 == 0

    def values(self, path: str, like: Tensor) -> Tensor:
        """[COPIES, columns]: positive values, and others of both signs where a copy changes."""
        size = self.widths[path]
        generator = torch.Generator(device="cpu").manual_seed(zlib.crc32(path.encode()))
        base = 0.5 + 2 * torch.rand(size, generator=generator, **CPU)
        other = 3 * (2 * torch.rand(size, generator=generator, **CPU) - 1)
        return torch.where(self.changed(path), other, base).to(like.device, like.dtype)

    def check(self, gate: Tensor | None, product: Tensor, same: bool) -> str:
        """What contradicts the plan; empty if nothing does.

        Args:
            gate: [COPIES, any, width]; ``None`` if it is not read.
            product: The same.
            same: Whether the plan says that the product is the gate.
        """
        tolerance = TOLERANCE.get(product.dtype, TOLERANCE[torch.bfloat16])
        product = _precise(product)
        singles = self._singles(product if gate is None else _precise(gate), tolerance)
        if problem := self._norm(product, singles, tolerance):
            return problem
        if gate is None:
            return ""
        gate = _precise(gate)
        same = same or _equal(gate, product, tolerance)
        of_product = [copy for copy in singles if _differs(product, copy, tolerance)]
        of_gate = [copy for copy in singles if _differs(gate, copy, tolerance)]
        if not of_product:
            return "does not depend on the projections in front of it"
        if len(of_gate) > 1:
            return "has a gate that depends on several projections"
        if not of_gate or (not same and of_gate == of_product):
            return "is not a product of its gate and another factor"
        if _mixed_signs(gate[BASE], tolerance):
            return "has a gate whose sign does not follow its projection"
        if self._proportional(gate, of_gate[0], tolerance):
            return "has a gate without an activation function"
        if not same and any(_not_a_factor(gate, product, copy, tolerance) for copy in of_gate):
            return "is not a product of its gate and another factor"
        return ""

    def _singles(self, states: Tensor, tolerance: float) -> tuple[int, ...]:
        """The copies that change one projection, or one half of a fused one."""
        if not self.fused:
            return tuple(range(FIRST, FIRST + len(self.widths)))
        halves, alternating = (FIRST, SECOND), (EVEN, ODD)
        for pair in (halves, alternating):
            if sum(_differs(states, copy, tolerance) for copy in pair) == 1:
                return (*pair, OTHERS)
        return (*halves, OTHERS)

    def _proportional(self, gate: Tensor, copy: int, tolerance: float) -> bool:
        """Whether the gate is its projection times a number."""
        paths = [path for path, size in self.widths.items() if size == 2 * self.width]
        path = paths[0] if self.fused else list(self.widths)[copy - FIRST]
        values = _precise(self.values(path, gate))[copy]
        if self.fused:
            half = self.width
            columns = {FIRST: slice(half), SECOND: slice(half, None), EVEN: slice(0, None, 2)}
            values = values[columns.get(copy, slice(1, None, 2))]
        if values.shape[-1] != gate.shape[-1] or len(paths) > 1:
            return False
        return _uniform((gate[copy] / values).flatten(), tolerance)

    def _norm(self, product: Tensor, singles: Sequence[int], tolerance: float) -> str:
        """Whether all neurons are scaled by one number that depends on the other neurons."""
        neuron = torch.arange(self.width, device=product.device)
        column = 2 * neuron if EVEN in singles and self.fused else neuron
        kept = ~self.some(column)
        before, after = product[BASE][:, kept], product[COPIES - 1][:, kept]
        used = before.abs() > tolerance * before.abs().amax()
        if int(used.sum()) < 2:
            return ""
        ratio = (after / torch.where(used, before, torch.ones_like(before)))[used]
        if _uniform(ratio, tolerance) and (ratio.median() - 1).abs() > 3 * tolerance:
            return "is read behind a norm over all neurons, but must be read in front of it"
        return ""


def _uniform(ratio: Tensor, tolerance: float) -> bool:
    """Whether nearly all numbers are the same, and not 0."""
    middle = ratio.median()
    near = (ratio - middle).abs() <= 2 * tolerance * middle.abs()
    return bool(middle != 0 and near.float().mean() > 0.98)


def _equal(gate: Tensor, product: Tensor, tolerance: float) -> bool:
    """Whether a gate that is computed by a formula is the product: nothing is gated."""
    bound = tolerance * product.abs().amax()
    return gate.shape == product.shape and bool(((gate - product).abs() <= bound).all())


def _differs(states: Tensor, copy: int, tolerance: float) -> bool:
    change = (states[copy] - states[BASE]).abs().amax()
    return bool(change > tolerance * states[BASE].abs().amax())


def _mixed_signs(gate: Tensor, tolerance: float) -> bool:
    bound = tolerance * gate.abs().amax()
    return bool((gate > bound).any() and (gate < -bound).any())


def _not_a_factor(gate: Tensor, product: Tensor, copy: int, tolerance: float) -> bool:
    """Whether product / gate changes although the gate's projection alone does.

    Masked and clamped values, which equal 0 or the extremes, are left out if others remain.
    """
    one, other = product[BASE] * gate[copy], product[copy] * gate[BASE]
    difference, size = (one - other).abs(), one.abs() + other.abs()
    # "not <=" instead of ">", so that NaN counts as a difference.
    wrong = ~(difference <= tolerance * size + 1e-9 * size.amax())
    kept = _is_free(product[BASE]) & _is_free(product[copy])
    if kept.float().mean() > MIN_FREE:
        wrong = wrong[kept]
    return bool(wrong.float().mean() > MAX_OUTLIERS)


def _is_free(product: Tensor) -> Tensor:
    """Where values are neither masked nor clamped."""
    return (product != 0) & (product < product.amax()) & (product > product.amin())


def _precise(states: Tensor) -> Tensor:
    return states if states.dtype == torch.float64 else states.float()
