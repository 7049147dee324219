"""Decides whether a linear layer is a down projection, and builds the tap that reads it."""

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.flow.structure import FFNInput, analyze
from neuronxa_callback.taps.flow.use import Use, data_of
from neuronxa_callback.taps.flow.walk import NotPointwise
from neuronxa_callback.taps.fused_kernels import match_product
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.hooks import DenseTap, Source, StateLayout
from neuronxa_callback.taps.layers import FoundFFN
from neuronxa_callback.taps.modules import channel_dim, is_linear, local_shard
from neuronxa_callback.taps.pointwise import Formula, formula
from neuronxa_callback.taps.trace import Trace


def ffn_input_of(
    call: Call, trace: Trace, chosen: bool, use: Use
) -> tuple[FFNInput | None, Formula | None]:
    """The input of a down projection; ``None`` if the linear layer is not one.

    Args:
        call: The call of the linear layer.
        trace: The trace that recorded it.
        chosen: Whether the user says that it is a down projection.
        use: How the outputs of layers are used.

    Returns:
        The input, and a formula of the gate if a fused kernel computes it.

    Raises:
        TapError: If it may be a down projection, and cannot be read.
    """
    assert call.source is not None
    try:
        ffn_input = analyze(call.source)
    except NotPointwise as error:
        match = match_product(call, trace.calls) if error.node.unknown else None
        if match is not None and (chosen or use.is_network(call, match[0])):
            return match
        if match is None and not chosen:
            use.refuse_unclear(call, error.node)
        return (FFNInput(call.source.root(), None, ()) if chosen else None), None
    if not chosen and not (ffn_input.activated and use.is_network(call, ffn_input)):
        return None, None
    return ffn_input, None


def dense_tap(
    call: Call,
    ffn_input: FFNInput,
    trace: Trace,
    layout: StateLayout,
    gate_path: str,
    kernel_gate: Formula | None,
) -> DenseTap:
    """The tap that reads this down projection.

    Args:
        call: A call of the down projection.
        ffn_input: The computation before it.
        trace: The trace that recorded both.
        layout: The layout of its states.
        gate_path: The module whose output is the gate, if the user names one.
        kernel_gate: The formula of the gate if a fused kernel computes it.
    """
    assert call.input is not None
    gate = Source(gate_path)
    if kernel_gate is not None and not gate_path:
        gate = Source(formula=kernel_gate, layers=(ffn_input.gate_sources[0].path,))
    elif not gate_path and ffn_input.gate is not None and ffn_input.gate is not ffn_input.product:
        gate = _gate_source(ffn_input.gate, trace)
    return DenseTap(
        path=call.path,
        product=_product_source(call, ffn_input, trace),
        gate=gate,
        width=local_shard(call.input).shape[channel_dim(call.module)],
        overwritten=frozenset(_overwritten(ffn_input)),
        layout=layout,
        projections=_projections(call, ffn_input, trace, kernel_gate is not None),
    )


def dense_network(ffn_input: FFNInput, tap: DenseTap) -> FoundFFN:
    """The network that ``tap`` reads, with a description of how it is read."""
    kind = "plain"
    if ffn_input.gated:
        kind = "fused" if len(ffn_input.sources) == 1 else "gated"
    separate = ffn_input.gate is not ffn_input.product
    has_gate = bool(tap.gate.modules) or (ffn_input.gate is not None and not separate)
    gate = f"output of {tap.gate.module}" if tap.gate.modules else "the same"
    if tap.gate.formula is not None:
        gate = f"computed from the output of {', '.join(tap.gate.layers)}"
    product = f"input of {tap.product.module}"
    if tap.product.formula is not None:
        product = f"computed from the output of {', '.join(tap.product.layers)}"
    how = f"product: {product}; gate: {gate if has_gate else 'none'}"
    return FoundFFN(
        tap.path,
        kind,
        tap.width,
        how,
        tap,
        has_gate=has_gate,
        problem=ffn_input.problem,
        hidden=data_of(ffn_input.sources[0]).value.shape[-1] if ffn_input.sources else 0,
    )


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


def _product_source(call: Call, ffn_input: FFNInput, trace: Trace) -> Source:
    product = ffn_input.product.root()
    assert call.source is not None
    if call.source.root() is product:
        return Source(call.path)
    for other in trace.calls[: call.order]:
        if other.source is not None and other.source.root() is product:
            return Source(other.path)
    found = formula(product, trace.escaped)
    if found is None or not found.layers:
        raise TapError(
            f"the product in front of {call.path} must be the input of a module, or a function of "
            "the outputs of linear layers, but it is normalized or weighted in other code; pass "
            "the networks that can be read as neuron_modules="
        )
    return Source(formula=found, layers=found.layers, parts=found.parts)


def _gate_source(gate: Node, trace: Trace) -> Source:
    """The module that returns the gate, or else the formula of the gate."""
    node = gate
    while not node.modules and node.keeps_values and node.inputs:
        node = node.inputs[0]
    if node.modules and _runs_once(node.modules[-1], trace):
        return Source(node.modules[-1])
    found = formula(gate, trace.escaped)
    if found is None:
        return Source()
    return Source(formula=found, layers=found.layers, parts=found.parts)


def _runs_once(path: str, trace: Trace) -> bool:
    """Whether each block runs the module at most once, so that its latest output is the right one.

    A network that gets the tokens in chunks calls all of its modules equally often.
    """
    calls = [call for call in trace.calls if call.path == path]
    inputs = {(call.block, call.outer[-1].order if call.outer else -1) for call in calls}
    return len(inputs) == len(calls)


def _overwritten(ffn_input: FFNInput) -> list[str]:
    paths = [node.path for node in ffn_input.sources if node.overwritten]
    gate = ffn_input.gate
    if gate is not None and gate.overwritten:
        paths += gate.modules
    return paths
