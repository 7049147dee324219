"""Leaves out adapters; refuses networks that run, but whose place in the model is uncertain."""

from collections.abc import Collection, Sequence

import torch

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.graph import Call
from neuronxa_callback.taps.layers import FoundFFN, stack_of
from neuronxa_callback.taps.modules import is_list_entry, tensors_of
from neuronxa_callback.taps.trace import Trace


def leave_out_adapters(found: dict[str, FoundFFN]) -> None:
    """Leaves out narrow networks called adapters that run beside a wider one in their block.

    Other narrow networks beside a wider one are refused: they may be adapters or not.
    """
    wide: dict[str, int] = {}
    for ffn in found.values():
        for one in ffn.passes if ffn.hidden else ():
            wide[one.block[0]] = max(wide.get(one.block[0], 0), ffn.width)
    for path, ffn in list(found.items()):
        if not ffn.hidden or not ffn.passes or ffn.width * 2 > ffn.hidden:
            continue
        block = ffn.passes[0].block[0]
        if wide[block] < 2 * ffn.width:
            continue
        if "adapter" in path.removeprefix(block).lower():
            del found[path]
        else:
            ffn.refusal = (
                f"{path} has {ffn.width} neurons beside a network of {wide[block]}, so that it may "
                "be an adapter or a feed-forward network; pass the networks that count as "
                "neuron_modules="
            )


def refuse_lone_networks(trace: Trace, networks: Sequence[FoundFFN]) -> None:
    """Refuses a list of networks alone, if other lists have blocks with more layers than a network.

    They may belong to the embedding or to a head.

    Raises:
        TapError: If there is such a list; names its first network.
    """
    linear = {call.path for call in trace.calls if call.linear}
    alone: dict[tuple[str, str], FoundFFN | None] = {}
    for ffn in networks:
        block = ffn.passes[0].block[0] if ffn.passes else ""
        read = {ffn.path, *(path for path, _ in getattr(ffn.tap, "projections", ()))}
        inside = {path for path in linear if path.startswith(f"{block}.")}
        key = (stack_of(ffn.path), block.rpartition(".")[0])
        alone[key] = alone.get(key, ffn) if inside and inside <= read else None
    for (stack, _), lone in alone.items():
        if lone and any(key[0] == stack and ffn is None for key, ffn in alone.items()):
            raise TapError(
                f"{lone.path} lies in a list of networks alone, so that it may belong to the"
                " embedding or to a head instead of a layer; pass the networks that count as"
                " neuron_modules="
            )


def refuse_uncertain(trace: Trace, found: Collection[str], empty: Sequence[Call]) -> None:
    """Refuses networks compiled by ``torch.jit``, and networks that got no rows.

    Raises:
        TapError: If there is one in a block; names the first.
    """
    for path in trace.scripted:
        names = path.split(".")
        inside = any(is_list_entry(".".join(names[: end + 1])) for end in range(len(names)))
        module = next(m for m, p in _modules(trace) if p == path)
        if inside and sum(weight.ndim > 1 for weight in module.parameters()) > 1:
            raise TapError(
                f"{path} is compiled by torch.jit, so that no hook can read its neurons; load the "
                "model without torch.jit.script or torch.jit.trace"
            )
    for call in empty:
        if is_list_entry(call.block[0]) and not any(
            call.path == path or call.path.startswith(f"{path}.") for path in found
        ):
            raise TapError(
                f"every feed-forward network must get tokens during discovery, but {call.path} got "
                "none; pass the networks that run on every token as neuron_modules="
            )


def _modules(trace: Trace) -> list[tuple[torch.nn.Module, str]]:
    return [(module, trace.paths[id(module)]) for module in trace.model.modules()]


def refuse_second_streams(trace: Trace, networks: Sequence[FoundFFN]) -> None:
    """Refuses layers that read the token ids anew instead of what earlier layers computed.

    They belong to another model (a teacher) or to another pass of the same one.

    Raises:
        TapError: If there is such a layer; names its block.
    """
    reached: set[int] = set()
    starts = {
        id(call.result)
        for call in trace.calls
        if call.result is not None and _is_of(call, networks)
    }
    outputs = (
        next(tensors_of(call.output), None) for call in trace.calls if _is_of(call, networks)
    )
    starts |= {id(trace.node(output)) for output in outputs if output is not None}
    for node in trace.recorded:
        if id(node) in starts or any(id(part) in reached for part in node.inputs):
            reached.add(id(node))
    order = sorted({(one.call, one.block, stack_of(f.path)) for f in networks for one in f.passes})
    first: dict[str, tuple[str, int]] = {}
    for _, block, stack in order:
        if first.setdefault(stack, block) == block:
            continue
        call = _call_of(trace, block)
        if call is None or call.source is None:
            continue
        given = [trace.node(tensor) for tensor in tensors_of((call.args, call.kwargs))]
        if any(id(node) in reached for node in (call.source, *given)):
            continue
        if bool((call.source.positions >= 0).any()):
            raise TapError(
                f"all layers must follow each other, but {block[0]} reads the tokens anew (another "
                "model, or another pass of this one); pass the networks that count as "
                "neuron_modules="
            )


def _is_of(call: Call, networks: Sequence[FoundFFN]) -> bool:
    return any(call.path == ffn.path for ffn in networks)


def _call_of(trace: Trace, block: tuple[str, int]) -> Call | None:
    """The call of this run of a block."""
    return next((c for c in trace.calls if c.path == block[0] and c.block == block), None)
