"""Computes a state again from the outputs of linear layers, as the recorded model computed it."""

import zlib
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.taps.flow.operations import (
    COMPARISONS,
    OVER_NEURONS,
    POINTWISE,
    SLICES,
    WRITES,
)
from neuronxa_callback.taps.graph import CASTS, LAYOUT, Node

_IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv", "setitem")

Formula = Callable[[Mapping[str, Any]], Tensor]
"""Computes a state from the outputs of linear layers (by path), weights (by ``path:name``) and
modules (by ``path:``)."""


@dataclass(frozen=True)
class Recomputation:
    """A formula, and all that it needs. Two with the same operations are equal."""

    text: str
    """The operations, in one text."""
    run: Formula = field(compare=False)
    layers: tuple[str, ...]
    """Paths of the linear layers whose outputs it needs."""
    parts: tuple[str, ...]
    """``path:name`` of the weights and ``path:`` of the modules that it needs."""

    def __call__(self, values: Mapping[str, Any]) -> Tensor:
        """The state."""
        return self.run(values)


def formula(node: Node, escaped: Container[str] = ()) -> Recomputation | None:
    """Repeats the operations behind ``node`` on the outputs of linear layers.

    Weights and modules are looked up anew at each use. Operations on the memory layout are left
    out, so the channels must stay last. ``None`` if an operation depends on more than its inputs'
    values, or one of the modules in ``escaped`` computed it with Python numbers.
    """
    builder = _Builder(escaped)
    run = builder.build(node)
    if run is None:
        return None
    return Recomputation(run.text, run, tuple(builder.layers), tuple(builder.parts))


class _Builder:
    def __init__(self, escaped: Container[str]) -> None:
        self.escaped = escaped
        self.layers: dict[str, None] = {}
        self.parts: dict[str, None] = {}
        self._built: dict[int, _Step | None] = {}

    def build(self, node: Node) -> "_Step | None":
        """The function that computes this tensor."""
        if id(node) not in self._built:
            self._built[id(node)] = self._build(node)
        return self._built[id(node)]

    def _build(self, node: Node) -> "_Step | None":
        if node.op == "linear":
            self.layers[node.path] = None
            return _Lookup(node.path)
        if node.op == "leaf":
            if node.path:
                self.parts[node.path] = None
                return _Lookup(node.path)
            return _Fixed(node.value)
        if node.name in LAYOUT:
            before = node.inputs[0]
            if before.value.shape[-1] == node.value.shape[-1]:
                return self.build(before)
            return self._divide(before, node.value.shape)
        if node.op in ("module", "norm") and node.module is not None:
            self.parts[f"{node.path}:"] = None
            return self._repeat(node, f"{node.path}:")
        known = node.name in CASTS | SLICES | POINTWISE | OVER_NEURONS | COMPARISONS
        made = node.constant
        if isinstance(node.op, str) or not (known or made) or node.within in self.escaped:
            return None
        return self._repeat(node, node.op)

    def _divide(self, before: Node, shape: tuple[int, ...]) -> "_Step | None":
        """The neurons in several axes instead of one."""
        axes = before.value.ndim - 1
        inner = self.build(before)
        if inner is None or before.value.shape[:-1] != shape[:axes] or len(shape) == axes:
            return None
        args = (_Slot(id(before)), -1, tuple(shape[axes:]))
        return _Repeat(torch.unflatten, {id(before): inner}, args, {}, None, in_place=False)

    def _repeat(self, node: Node, op: Any) -> "_Step | None":
        parts = {id(part): self.build(part) for part in node.inputs}
        if any(part is None for part in parts.values()):
            return None
        kwargs = {key: value for key, value in node.kwargs.items() if key != "inplace"}
        return _Repeat(
            op,
            {key: part for key, part in parts.items() if part is not None},
            _with_slots(node.args),
            _with_slots(kwargs),
            node.index,
            in_place(node),
        )


def in_place(node: Node) -> bool:
    """Whether the operation writes into its first input."""
    bare = node.name.strip("_")
    return (
        node.name == f"{bare}_"
        or bare in _IN_PLACE_OPERATORS
        or (node.name in WRITES and node.name.endswith("_"))
        or bool(node.kwargs.get("inplace"))
    )


@dataclass(frozen=True)
class _Lookup:
    path: str

    @property
    def text(self) -> str:
        return self.path

    def __call__(self, values: Mapping[str, Any]) -> Tensor:
        return values[self.path]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _Fixed:
    value: Tensor

    @property
    def text(self) -> str:
        # Longer ones may depend on the number of tokens.
        single = self.value.numel() == 1 and not self.value.is_meta
        return str(self.value.item() if single else self.value.ndim)

    def __call__(self, values: Mapping[str, Any]) -> Tensor:
        return self.value


@dataclass(frozen=True)
class _Repeat:
    """One operation on the results of other formulas."""

    op: Any
    parts: Mapping[int, "_Step"]
    args: Any
    kwargs: Any
    index: int | None
    in_place: bool

    @cached_property
    def text(self) -> str:
        op = self.op if isinstance(self.op, str) else getattr(self.op, "__name__", "?")
        texts = {key: part.text for key, part in self.parts.items()}
        whole = f"{op}{_fill(self.args, texts)}{_fill(self.kwargs, texts)}{self.index}"
        # Operations that are used twice would make it grow without bound.
        return whole if len(whole) < 200 else f"{op}-{zlib.crc32(whole.encode())}"

    def __call__(self, values: Mapping[str, Any]) -> Tensor:
        known = {key: part(values) for key, part in self.parts.items()}
        args = _fill(self.args, known)
        op = values[self.op] if isinstance(self.op, str) else self.op
        if self.in_place and isinstance(args[0], Tensor):
            # The model's own tensors stay as they are.
            args = (args[0].clone(), *args[1:])
        out = op(*args, **_fill(self.kwargs, known))
        if out is None:
            out = args[0]
        return out if self.index is None else out[self.index]  # type: ignore[no-any-return]


_Step = _Lookup | _Fixed | _Repeat


@dataclass(frozen=True)
class _Slot:
    key: int


def _with_slots(template: Any) -> Any:
    # Slots instead of nodes: a formula must not keep the tensors of the trace alive.
    if isinstance(template, Node):
        return _Slot(id(template))
    if isinstance(template, (tuple, list)):
        return tuple(_with_slots(item) for item in template)
    if isinstance(template, dict):
        return {key: _with_slots(item) for key, item in template.items()}
    return template


def _fill(template: Any, values: Mapping[int, Any]) -> Any:
    if isinstance(template, _Slot):
        return values[template.key]
    if isinstance(template, tuple):
        return tuple(_fill(item, values) for item in template)
    if isinstance(template, dict):
        return {key: _fill(item, values) for key, item in template.items()}
    return template
