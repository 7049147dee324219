"""Experts that are separate modules: which modules form one set, and which input has the tokens."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.hooks import ExpertGroupTap
from neuronxa_callback.taps.experts.rows import TokenMatcher
from neuronxa_callback.taps.flow.operations import STRUCTURE
from neuronxa_callback.taps.flow.positions import order_of, rows_of
from neuronxa_callback.taps.flow.structure import FFNInput
from neuronxa_callback.taps.flow.use import data_of
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.hooks import DenseTap, Source
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import modules_by_path
from neuronxa_callback.taps.pointwise import Formula
from neuronxa_callback.taps.trace import Trace

_ROW_SELECTIONS = ("__getitem__", "index_select", "gather", "take_along_dim", "masked_select")


@dataclass(frozen=True)
class ExpertGroup:
    """A set of experts that get rows instead of all tokens."""

    around: Call
    """The module around the experts, whose input is all tokens."""
    expert: str
    """Path of one of the experts; empty if one call gets the rows of all experts."""


def expert_group(
    call: Call, ffn_input: FFNInput, trace: Trace, ordered: bool
) -> ExpertGroup | None:
    """The group of experts that this call belongs to; ``None`` if it reads all tokens.

    Args:
        call: The call of a down projection.
        ffn_input: The computation in front of it.
        trace: The trace that recorded both.
        ordered: Whether its rows are the tokens in their order.

    Raises:
        TapError: If its rows are some of the tokens, but cannot be matched with them.
    """
    if not ffn_input.sources:
        return None
    read = data_of(ffn_input.sources[0])
    if ordered and not _is_selected(read):
        return None
    batch, tokens = trace.shape or (0, 0)
    own = order_of(rows_of(read, -1), batch, tokens) if batch else None
    if own is not None and not _is_selected(read):
        return None
    if not bool((read.positions >= 0).any()):
        return None
    rows = read.value.reshape(-1, read.value.shape[-1])
    paths = [call.path, *(source.path for source in ffn_input.sources)]
    whole = any(weight.ndim == 3 for weight in call.module.parameters(recurse=False))
    expert = "" if whole else _expert_path(paths, call.block[0])
    for around in reversed(call.outer):
        inside = all(path.startswith(f"{around.path}.") for path in (*paths, expert) if path)
        only = around.path == expert and not re.search(r"\d+$", expert)
        if not (inside or only) or not around.path.startswith(f"{call.block[0]}."):
            continue
        if _matches(rows, around, trace):
            return ExpertGroup(around, expert)
    if ordered:
        return None
    raise TapError(
        f"the rows that {call.path} gets must be copies of tokens in the order of the microbatch, "
        "or the rows of an expert in a module that gets all tokens, but are neither (sorted, "
        "weighted or in part); pass the networks that can be read as neuron_modules="
    )


def _is_selected(node: Node) -> bool:
    """Whether the rows were selected from other rows by an index."""
    node = node.root()
    while node.name in STRUCTURE and node.inputs:
        if node.name in _ROW_SELECTIONS and len(node.inputs) > 1:
            return True
        node = node.inputs[0].root()
    return False


def _matches(rows: Tensor, around: Call, trace: Trace) -> bool:
    hidden, source = around.input, around.source
    batch, tokens = trace.shape or (0, 0)
    if hidden is None or source is None or hidden.shape[-1] != rows.shape[-1] or not tokens:
        return False
    order = order_of(rows_of(source, -1), batch, tokens)
    if order is None or order.time_first or order.gaps or order.count != tokens:
        return False
    if rows.is_meta:
        return True
    try:
        matcher = TokenMatcher(hidden.reshape(-1, hidden.shape[-1]))
        matcher.match(rows, torch.zeros(len(rows), dtype=torch.long, device=rows.device), "")
    except TapError:
        return False
    return True


def _expert_path(paths: list[str], block: str) -> str:
    """The innermost numbered module of a block that contains the layers, else their container."""
    names = [path.split(".") for path in paths]
    common: list[str] = []
    for parts in zip(*names, strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    depth = len(block.split("."))
    for end in range(len(common), depth, -1):
        if re.search(r"\d+$", common[end - 1]):
            return ".".join(common[:end])
    return ".".join(common)


def experts_of_group(
    model: nn.Module, ffn_input: FFNInput, tap: DenseTap, group: ExpertGroup
) -> FoundFFN:
    """All experts of the group as one set of neurons; ``tap`` reads one of them.

    Raises:
        TapError: If the experts differ in their classes or sizes.
    """
    source, tap = ffn_input.sources[0], replace(tap, rows=True)
    taps: tuple[DenseTap, ...] = (tap,)
    row_modules: tuple[str, ...] = (source.path,)
    if not group.expert:
        count = int(getattr(source.module, "num_experts", 0)) or len(_stack_of(source))
    else:
        siblings = _siblings(model, group.expert, group.around.path)
        count = len(siblings)
        old = group.expert
        taps = tuple(_moved(tap, old, new) for new in siblings)
        row_modules = tuple(_move(source.path, old, new) for new in siblings)
    around = group.around.path
    return FoundFFN(
        around,
        "routed",
        count * tap.width,
        f"rows of {count} experts, matched with the tokens that {around} is given",
        ExpertGroupTap(around, taps, row_modules, not group.expert),
        experts=count,
        has_gate=ffn_input.gate is not None
        and (ffn_input.gate is ffn_input.product or bool(tap.gate.modules)),
        problem=ffn_input.problem,
        hidden=data_of(source).value.shape[-1] if count == 1 else 0,
    )


def _stack_of(source: Node) -> Tensor:
    assert source.module is not None
    return next(weight for weight in source.module.parameters(recurse=False) if weight.ndim == 3)


def is_same_expert(found: FoundFFN, tap: DenseTap) -> bool:
    """Whether the tap of another expert of the group reads it in the same way."""
    group = found.tap
    assert isinstance(group, ExpertGroupTap)
    expected = next((each for each in group.experts if each.path == tap.path), None)
    return (
        expected is not None
        and expected.width == tap.width
        and expected.module_paths == tap.module_paths
    )


def _siblings(model: nn.Module, expert: str, around: str) -> list[str]:
    modules = modules_by_path(model)
    if expert == around:
        return [expert]
    head = re.sub(r"\d+$", "", expert)
    if head == expert:
        parent = expert.rpartition(".")[0]
        paths = [
            path
            for path, module in modules.items()
            if path.rpartition(".")[0] == parent and type(module) is type(modules[expert])
        ]
    else:
        paths = [path for path in modules if re.fullmatch(re.escape(head) + r"\d+", path)]
        paths.sort(key=lambda path: int(path[len(head) :]))
    for path in paths:
        if _plan_of(modules[path]) != _plan_of(modules[expert]):
            raise TapError(
                f"all experts in {around} must have one class and one size, but {path} differs "
                f"from {expert}; leave them out with neuron_modules="
            )
    return paths


def _plan_of(module: nn.Module) -> tuple[Any, ...]:
    """Classes and sizes of an expert."""
    shapes = tuple((name, tuple(weight.shape)) for name, weight in module.named_parameters())
    return (*(type(inner) for inner in module.modules()), shapes)


def _move(path: str, old: str, new: str) -> str:
    return path.replace(old + ".", new + ".", 1) if path.startswith(old + ".") else path


def _moved(tap: DenseTap, old: str, new: str) -> DenseTap:
    """The tap of the expert at ``old``, for the expert at ``new``."""
    return replace(
        tap,
        path=_move(tap.path, old, new),
        product=_moved_source(tap.product, old, new),
        gate=_moved_source(tap.gate, old, new),
        overwritten=frozenset(_move(path, old, new) for path in tap.overwritten),
        projections=tuple((_move(path, old, new), size) for path, size in tap.projections),
    )


def _moved_source(source: Source, old: str, new: str) -> Source:
    names = {path: _move_part(path, old, new) for path in (*source.layers, *source.parts)}
    return Source(
        _move(source.module, old, new),
        None if source.formula is None else _RenamedFormula(source.formula, names),
        tuple(names[path] for path in source.layers),
        tuple(names[path] for path in source.parts),
    )


def _move_part(part: str, old: str, new: str) -> str:
    path, colon, name = part.partition(":")
    return (new if path == old else _move(path, old, new)) + colon + name


@dataclass(frozen=True)
class _RenamedFormula:
    """A formula on the outputs of other layers."""

    formula: Formula
    names: Mapping[str, str]
    """Path in the formula -> path of the layer."""

    def __call__(self, outputs: Mapping[str, Tensor]) -> Tensor:
        return self.formula({name: outputs[path] for name, path in self.names.items()})
