"""Proof that no feed-forward network is left out, from the data flow of one forward pass.

A linear layer, module or bare operation, that gets a non-linear function of other linear layers and
whose output is added to the hidden states is a down projection. Each must be read, or is left out
for a reason that the data flow gives. No name of a module matters.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.flow.operations import ACTIVATIONS, TIMES, WEAK_ACTIVATIONS
from neuronxa_callback.taps.graph import Node
from neuronxa_callback.taps.layers import stack_of
from neuronxa_callback.taps.modules import (
    is_norm,
    is_single_operation,
    modules_by_path,
    up_to_first_number,
)
from neuronxa_callback.taps.plan import TapPlan
from neuronxa_callback.taps.proof.dataflow import DataFlow, before_norm, block_of, place_of, rows_of
from neuronxa_callback.taps.trace import Trace


def check(trace: Trace, plan: TapPlan, model: nn.Module) -> dict[str, list[str]]:
    """Looks for feed-forward networks that the plan does not read.

    Returns:
        Reason -> paths of the linear layers that are left out for it.

    Raises:
        TapError: If a network is not read, or blocks with the same modules differ.
    """
    _check_blocks(plan, model)
    flow, left_out = DataFlow(trace), dict[str, list[str]]()
    read = _paths_read(plan)
    for call in trace.calls:
        opaque = is_single_operation(call.module) and not is_norm(call.module)
        if opaque and call.path not in read and not _inside(call.path, read):
            raise TapError(
                f"every feed-forward network must be read, but {call.path} holds experts that are"
                " not; pass the networks that can be read as neuron_modules="
            )
    dense = {part.path for part in plan.parts if part.kind != "routed"}
    first = [
        flow.data_of(source)
        for linear in flow.linears()
        if linear.path in read
        for source in flow.source_of(flow.data_of(linear), block_of(linear)).linears
    ]
    inputs = {id(rows_of(node)): node.value.shape[-1] for node in first}
    stacks = {stack_of(path) for path in read}
    for linear in flow.linears():
        path = place_of(linear)
        if linear.op == "linear" and path in dense:
            _refuse_misread(flow, linear, trace, read)
        if not up_to_first_number(path) or path in read or _inside(path, read):
            continue
        if "" not in stacks and stack_of(path) not in stacks:
            continue
        reason = _reason(flow, linear, trace, plan, inputs)
        if reason == "":
            raise TapError(
                f"every feed-forward network must be read, but {path} gets a non-linear function of"
                " linear layers and adds its output to the hidden states, and is not read; pass"
                " the down projections as neuron_modules="
            )
        if reason is not None and path not in left_out.setdefault(reason, []):
            left_out[reason].append(path)
    return left_out


def _refuse_misread(flow: DataFlow, linear: Node, trace: Trace, read: Sequence[str]) -> None:
    """Refuses what is read as a network on every token, and is none.

    Raises:
        TapError: If its rows are not the tokens in their order, it reads another network's output,
            its output goes through a non-linear function, or it is weighted with 0.
    """
    path, problem = linear.path, ""
    first = [
        flow.data_of(one) for one in flow.source_of(flow.data_of(linear), block_of(linear)).linears
    ]
    if first and not all(flow.token_rows(node) for node in first):
        problem = "does not get the tokens in their order"
    elif any(rows_of(node).op == "linear" and rows_of(node).path in read for node in first):
        problem = "gets the output of another network"
    for user, current in flow.users(linear):
        others = [p.value for p in user.inputs if p is not current and p.value.ndim > 1]
        if user.name in TIMES and any(_is_routing(value) for value in others):
            problem = "is switched off for some tokens after it has run"
        if user.name in ACTIVATIONS | WEAK_ACTIVATIONS:
            problem = "gives its output to another non-linear function"
    if problem:
        raise TapError(
            f"a feed-forward network must add its output for every token to the hidden states, but"
            f" {path} {problem}; pass the networks that do as neuron_modules="
        )


def _is_routing(value: Tensor) -> bool:
    """Whether these are weights of tokens of which some are 0 and some are not."""
    return value.shape[-1] == 1 and bool((value == 0).any() and (value != 0).any())


def _reason(
    flow: DataFlow, linear: Node, trace: Trace, plan: TapPlan, inputs: Mapping[int, int]
) -> str | None:
    """Why a linear layer is no down projection; ``None`` if nothing suggests that it is one.

    ``inputs`` are the states that the networks of the plan read, by identity, with their width.
    """
    if not linear.inputs:
        return None
    source = flow.source_of(flow.data_of(linear), block_of(linear))
    if not source.linears or not source.active:
        return None
    if source.mixed:
        return "reads other tokens between its layers"
    batch, tokens = trace.shape or (1, 1)
    data = flow.data_of(linear).value
    if tokens > 1 and data.numel() // data.shape[-1] <= batch:
        return "does not run on every token"
    first = [flow.data_of(one) for one in source.linears]
    hidden = first[0].value.shape[-1]
    if any(before_norm(one) is not before_norm(first[0]) for one in first):
        return "its factors are computed from different states"
    if not flow.returns(linear, {hidden, *inputs.values()}):
        return "its output is not added to the hidden states"
    block = block_of(linear)
    wider = any(
        up_to_first_number(part.path) == block and part.width > data.shape[-1]
        for part in plan.parts
    )
    if data.shape[-1] < hidden and wider and id(rows_of(first[0])) not in inputs:
        return "is a bottleneck beside a wider network"
    return ""


def _paths_read(plan: TapPlan) -> tuple[str, ...]:
    paths = dict.fromkeys(part.path for part in plan.parts)
    for tap in plan.taps:
        paths |= dict.fromkeys(one.path for one in getattr(tap, "experts", ()))
    return tuple(paths)


def _inside(path: str, read: Sequence[str]) -> bool:
    return any(path.startswith(f"{one}.") for one in read)


def _check_blocks(plan: TapPlan, model: nn.Module) -> None:
    """Blocks of one list with the same modules must have the same networks."""
    modules = modules_by_path(model)
    read = {id(modules[part.path]): (part.kind, part.experts > 0) for part in plan.parts}
    blocks = (up_to_first_number(part.path) for part in plan.parts)
    lists = {block.rpartition(".")[0] for block in blocks if block}
    kinds: dict[tuple[object, ...], tuple[str, object]] = {}
    for path, module in modules.items():
        head, _, number = path.rpartition(".")
        if head not in lists or not number.isdigit():
            continue
        inner = list(module.named_modules())
        networks = {name: read[id(one)] for name, one in inner if id(one) in read}
        key = (head, *((name, type(one)) for name, one in inner))
        other, same = kinds.setdefault(key, (path, networks))
        if networks != same:
            raise TapError(
                f"blocks with the same modules must have the same feed-forward networks, but"
                f" {other} and {path} do not; pass the down projections as neuron_modules="
            )
