"""Decides whether a linear layer is a down projection, and builds the tap that reads it."""

import re

from torch import nn

from neuronxa_callback.taps.fused_kernels import match_product
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.hooks import DenseTap, StateLayout
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import channel_dim, is_linear, is_list_entry, local_shard
from neuronxa_callback.taps.pointwise import (
    FFNInput,
    Formula,
    NotPointwise,
    formula,
    trace_ffn_input,
)
from neuronxa_callback.taps.trace import Trace

# Modules with the same structure as feed-forward networks that do not transform the tokens.
_NO_FFN = re.compile(r"router|norm|adapter|(^|\.)gate\.|per_layer_|hyper", re.IGNORECASE)


def ffn_input_of(call: Call, trace: Trace, chosen: bool) -> tuple[FFNInput | None, Formula | None]:
    """The input of a down projection; ``None`` if the linear layer is not one.

    Args:
        call: The call of the linear layer.
        trace: The trace that recorded it.
        chosen: Whether the user says that it is a down projection.

    Returns:
        The input, and a formula of the gate if a fused kernel computes it.
    """
    assert call.source is not None
    if not chosen and (
        not is_list_entry(call.block[0]) or _NO_FFN.search(call.path.removeprefix(call.block[0]))
    ):
        return None, None
    try:
        ffn_input = trace_ffn_input(call.source)
    except NotPointwise as error:
        match = match_product(call, trace.calls) if error.node.unknown else None
        if match is not None:
            return match
        return (FFNInput(call.source.root(), None, (), None) if chosen else None), None
    if not chosen and (ffn_input.gate is None or not _returns_to_input(call, ffn_input)):
        return None, None
    return ffn_input, None


def dense_tap(
    call: Call, ffn_input: FFNInput, trace: Trace, gate_path: str, kernel_gate: Formula | None
) -> DenseTap:
    """The tap that reads this down projection.

    Args:
        call: A call of the down projection.
        ffn_input: The computation before it.
        trace: The trace that recorded both.
        gate_path: The module whose output is the gate, if the user names one.
        kernel_gate: The formula of the gate if a fused kernel computes it.
    """
    gate_formula = None if gate_path else kernel_gate
    if gate_formula is None and not gate_path and ffn_input.gated:
        gate_path, gate_formula = _gate_of(ffn_input)
    sources = tuple(dict.fromkeys(source.path for source in ffn_input.gate_sources))
    assert call.input is not None
    return DenseTap(
        path=call.path,
        product=ffn_input.norm.path if ffn_input.norm is not None else call.path,
        gate=gate_path,
        formula=gate_formula,
        sources=sources if gate_formula is not None else (),
        width=local_shard(call.input).shape[channel_dim(call.module)],
        overwritten=ffn_input.gate is not None and ffn_input.gate.overwritten,
        layout=_layout(call, trace),
        projections=_projections(call, ffn_input, trace, kernel_gate is not None),
    )


def dense_network(ffn_input: FFNInput, tap: DenseTap) -> FoundFFN:
    """The network that ``tap`` reads, with a description of how it is read."""
    kind = "plain"
    if ffn_input.gated:
        kind = "fused" if len(ffn_input.sources) == 1 else "gated"
    has_gate = bool(tap.gate_modules) or not (ffn_input.gate is None or ffn_input.gated)
    gate = f"output of {tap.gate}" if tap.gate_modules else "the same"
    if tap.formula is not None:
        gate = f"computed from the output of {', '.join(tap.sources)}"
    how = f"product: input of {tap.product}; gate: {gate if has_gate else 'none'}"
    return FoundFFN(tap.path, kind, tap.width, how, tap, has_gate=has_gate)


def _projections(
    call: Call, ffn_input: FFNInput, trace: Trace, by_kernel: bool
) -> tuple[tuple[str, int], ...]:
    """Path and columns of each linear layer before the down projection."""
    found = {source.path: source.value for source in ffn_input.sources}
    if by_kernel:
        # What a kernel reads cannot be traced: all linear layers beside the down projection.
        found |= {
            other.path: other.output
            for other in trace.calls[: call.order]
            if is_linear(other.module) and other.outer and other.outer[-1] is call.outer[-1]
        }
    return tuple(
        (path, local_shard(out).shape[channel_dim(call.module)]) for path, out in found.items()
    )


def _layout(call: Call, trace: Trace) -> StateLayout:
    assert call.input is not None
    shape = call.input.shape
    batch, tokens = trace.shape or (0, 0)
    channels_first = isinstance(call.module, nn.Conv1d)
    time_first = (
        len(shape) == 3 and not channels_first and shape[:2] == (tokens, batch) != (batch, tokens)
    )
    length = shape[-1] if channels_first else shape[1] if len(shape) == 3 else 0
    return StateLayout(channels_first, time_first, trace.shifts.get(length, 0))


def _returns_to_input(call: Call, ffn_input: FFNInput) -> bool:
    """Whether all sources read one tensor, and the layer returns to the width of that tensor."""
    read = [source.inputs[0].root() for source in ffn_input.sources]
    if any(node is not read[0] for node in read):
        # Zamba 2: a low-rank path next to a projection starts at the projection's input.
        read = [_before_linears(node) for node in read]
    width_in = ffn_input.sources[0].inputs[0].value.shape[channel_dim(call.module)]
    width_out = call.output.shape[channel_dim(call.module)]
    return all(node is read[0] for node in read) and bool(width_in == width_out)


def _before_linears(node: Node) -> Node:
    while node.op == "linear":
        node = node.inputs[0].root()
    return node


def _gate_of(ffn_input: FFNInput) -> tuple[str, Formula | None]:
    """The module that returns the gate, or else the formula of the gate."""
    assert ffn_input.gate is not None
    node: Node = ffn_input.gate
    while not node.modules and node.keeps_values and node.inputs:
        node = node.inputs[0]
    return (node.modules[-1], None) if node.modules else ("", formula(ffn_input.gate))
