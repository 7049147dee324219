"""Finds product and gate in the computation in front of a down projection.

The spine is every tensor that all values pass on their way. Its deepest tensor is the output of a
linear layer (a plain network), or the place where several layers meet. If they meet in one
multiplication of factors without a common source, the factor with the activation function is the
gate. Masks, clamps and scales behind it belong to the product; the product is read in front of a
norm and without a number of the token (a routing weight).
"""

from dataclasses import dataclass

import torch

from neuronxa_callback.taps.flow.operations import (
    BOUNDS,
    COMPARISONS,
    DIVISIONS,
    MASKS,
    NORMS,
    PICKS,
    SUMS,
    TIMES,
)
from neuronxa_callback.taps.flow.walk import BackwardWalk, is_projection, is_token_scalar
from neuronxa_callback.taps.graph import Node


@dataclass(frozen=True)
class FFNInput:
    """The computation between a down projection and the linear layers before it."""

    product: Node
    gate: Node | None
    """The output of the activation function; ``None`` if it is unknown or there is none."""
    sources: tuple[Node, ...]
    """Outputs of the linear layers that the product is computed from."""
    gate_sources: tuple[Node, ...] = ()
    """The sources that the gate is computed from."""
    gated: bool = False
    """Whether the gate is one factor of the product."""
    activated: bool = False
    """Whether the product contains an activation function."""
    problem: str = ""
    """Why the gate is unknown."""


@dataclass(frozen=True)
class _Found:
    product: Node
    gate: Node | None
    gated: bool
    activated: bool
    problem: str = ""


def analyze(layer_input: Node) -> FFNInput:
    """Product and gate in front of a linear layer.

    Raises:
        NotPointwise: If the input is not a function, neuron by neuron, of linear layers' outputs.
    """
    walk = BackwardWalk()
    found = _find(walk, layer_input)
    outputs = dict.fromkeys(walk.outputs[key] for key, _ in walk.sources(layer_input))
    of_gate: dict[Node, None] = {}
    if found.gate is not None:
        of_gate = dict.fromkeys(walk.outputs[key] for key, _ in walk.sources(found.gate))
    return FFNInput(
        found.product,
        found.gate,
        tuple(outputs),
        tuple(of_gate),
        found.gated,
        found.activated,
        found.problem,
    )


def _find(walk: BackwardWalk, top: Node) -> _Found:
    if not walk.sources(top):
        return _Found(top.root(), None, gated=False, activated=False)
    spine = walk.spine(top)
    core = spine[-1]
    activated = walk.has_activation(spine[0])
    if not activated:
        return _Found(top.root(), None, gated=False, activated=False)
    if not walk.has_activation(core):
        return _plain(walk, top, spine)
    factors = _factors(walk, core)
    product, problem = _before_norm(walk, spine, len(spine) - 1, top)
    if len(factors) < 2:
        problem = f"its layers meet in {core.name!r} instead of one multiplication"
        return _Found(product, None, gated=True, activated=True, problem=problem)
    if product is core.root() and any(_weighted(walk, each) is not each for each in factors):
        product = _product_of([_weighted(walk, each) for each in factors], core)
    gate = _gate_among(walk, factors)
    if gate is None and not problem:
        problem = "more than one factor of the product has an activation function, or none"
    return _Found(product, None if problem else gate, gated=True, activated=True, problem=problem)


def _plain(walk: BackwardWalk, top: Node, spine: list[Node]) -> _Found:
    place = _activation_on(walk, spine)
    product, problem = _before_norm(walk, spine, place, top)
    gate = spine[place]
    if product.root() is gate or walk.same(product) is gate:
        gate = product
    return _Found(product, None if problem else gate, gated=False, activated=True, problem=problem)


def _activation_on(walk: BackwardWalk, spine: list[Node]) -> int:
    """The index of the activation function's output on the spine of a plain network."""
    place = len(spine) - 1
    while not walk.has_activation(spine[place]):
        place -= 1
    while place and _step(walk, spine[place - 1], spine[place]) in ("other", "number"):
        place -= 1
    return place


def _before_norm(walk: BackwardWalk, spine: list[Node], place: int, top: Node) -> tuple[Node, str]:
    """The product, and the first step after ``place`` that is none of a product, as text."""
    problem = ""
    for index in range(place - 1, -1, -1):
        step = _step(walk, spine[index], spine[index + 1])
        if step == "norm":
            return spine[index + 1], problem
        if step == "other" and not problem:
            problem = f"its product goes through {spine[index].name!r}"
    return top.root(), problem


def _step(walk: BackwardWalk, node: Node, inner: Node) -> str:
    """How a tensor of the spine follows from the next one.

    Returns:
        ``mask``, ``clamp``, ``scale`` (by weights), ``number`` (a scale by a number), ``norm``
        (also a number of the token), or ``other``.
    """
    others = [part for part in node.inputs if walk.same(part) is not inner]
    constant = [part for part in others if not walk.sources(part)]
    if node.op == "norm" or node.name in NORMS:
        return "norm"
    if any(is_token_scalar(part) for part in constant) and node.name in TIMES | DIVISIONS | SUMS:
        return "norm"
    if node.name in MASKS:
        return "mask"
    if node.name in BOUNDS:
        return "clamp"
    if node.name in TIMES | DIVISIONS and len(constant) == len(others):
        direct = any(walk.same(part) is inner for part in node.inputs)
        if not direct or len(node.inputs) - len(others) > 1:
            return "other"
        return "scale" if any(part.value.ndim for part in constant) else "number"
    if node.name in TIMES and all(_is_mask(part) for part in others if walk.sources(part)):
        return "mask"
    return "other"


def _is_mask(node: Node) -> bool:
    root = node.root()
    return root.value.dtype == torch.bool or root.name in COMPARISONS | PICKS


def _factors(walk: BackwardWalk, core: Node) -> list[Node]:
    """The factors of nested multiplications whose factors have no common source."""
    inner = walk.computed(core)
    if core.name in TIMES and len(inner) == 1 and not is_projection(core):
        scaled = _factors(walk, inner[0])
        return scaled if len(scaled) > 1 else [core]
    if core.name not in TIMES or len(inner) != 2:
        return [core]
    one, other = inner
    if walk.sources(one).keys() & walk.sources(other).keys():
        return [core]
    return _factors(walk, one) + _factors(walk, other)


def _weighted(walk: BackwardWalk, factor: Node) -> Node:
    """The factor without a number of the token that multiplies it."""
    root = factor.root()
    inner = walk.computed(root)
    if root.name in TIMES and len(inner) == 1 and _step(walk, root, inner[0]) == "norm":
        return _weighted(walk, inner[0])
    return factor


def _product_of(factors: list[Node], core: Node) -> Node:
    """The product of these factors, which the model itself does not compute."""
    total = factors[0]
    for factor in factors[1:]:
        total = Node(core.value, torch.mul, (total, factor))
    return total


def _gate_among(walk: BackwardWalk, factors: list[Node]) -> Node | None:
    """The activation function's output in the only factor that has one."""
    for weak in (False, True):
        having = [each for each in factors if walk.has_activation(each, weak)]
        if len(having) == 1:
            return _gate_in(walk, having[0])
        if having:
            return None
    return None


def _gate_in(walk: BackwardWalk, factor: Node) -> Node | None:
    """The gate in a factor: without masks, clamps and scales that are no part of its module."""
    spine = walk.spine(factor)
    if walk.has_activation(spine[-1]):
        return None
    place = _activation_on(walk, spine)
    for index in range(place):
        if spine[index].modules:
            return spine[index]
    return spine[place]
