"""Which token of the microbatch each value of a recorded tensor belongs to.

Token t of sentence b has the number ``b * tokens + t``. The numbers start at the token ids and
follow every operation that moves, copies or joins values; residual connections carry them through
attention. A tensor's numbers have its number of dimensions, with size 1 where they are all equal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neuronxa_callback.taps.flow.operations import (
    ACTIVATIONS,
    CONTRACTIONS,
    EMPTY,
    NORMS,
    OVER_NEURONS,
    POINTWISE,
    SAME_SHAPE,
    STRUCTURE,
    WRITES,
)
from neuronxa_callback.taps.graph import Node

CONSTANT, MIXED, UNKNOWN = -1, -2, -3
"""Values of no token (weights, virtual tokens), of several tokens, and of an unknown origin."""


def filled(value: int, dims: int) -> Tensor:
    """Numbers of a tensor whose values are all of one kind."""
    return torch.full((1,) * dims, value, dtype=torch.long, device="cpu")


def numbered(shape: Sequence[int]) -> Tensor:
    """Numbers of the token ids [batch, tokens]."""
    return torch.arange(shape[0] * shape[-1], dtype=torch.long, device="cpu").reshape(shape[0], -1)


def combined(parts: Sequence[Tensor]) -> Tensor:
    """Numbers of a pointwise function: a token wins over everything, two tokens are mixed."""
    total = parts[0]
    for part in parts[1:]:
        both = (total >= 0) & (part >= 0)
        one = torch.where(
            (total >= 0) | (part >= 0), torch.maximum(total, part), torch.minimum(total, part)
        )
        total = torch.where(both & (total != part), MIXED, one)
    return total


def follow(func: Any, args: Any, kwargs: Mapping[str, Any], out: Node) -> Tensor:
    """Numbers of the result ``out`` of an operation; its arguments hold nodes for tensors."""
    dims = out.value.ndim
    inputs = [node for node in out.inputs if node.positions.numel()]
    kinds = {UNKNOWN if _mixed(node) else int(node.positions.max()) for node in inputs}
    if out.name in EMPTY:
        return filled(UNKNOWN, dims)
    if all(kind == CONSTANT for kind in kinds) or not dims:
        return filled(CONSTANT, dims)
    try:
        found = _follow(func, args, kwargs, out)
    except (RuntimeError, IndexError, TypeError, ValueError, NotImplementedError):
        found = None
    return filled(UNKNOWN, dims) if found is None else found


def _mixed(node: Node) -> bool:
    return bool((node.positions < CONSTANT).any())


def _follow(func: Any, args: Any, kwargs: Mapping[str, Any], out: Node) -> Tensor | None:
    name, shape = out.name, tuple(out.value.shape)
    first = out.inputs[0]
    if name in ("embedding", "one_hot"):
        ids = first if name == "one_hot" or not first.value.is_floating_point() else out.inputs[1]
        return ids.positions.unsqueeze(-1)
    if name in SAME_SHAPE and first.value.shape == shape:
        return first.positions
    if name in ("__getitem__", "index_select") and _is_constant(first):
        return _looked_up(args, shape)
    if name in WRITES:
        return _written(func, args, kwargs, shape)
    if name in STRUCTURE:
        found = _moved(func, args, kwargs, out)
        return None if found is None else _compact(found)
    if name in NORMS and first.value.shape == shape:
        return first.positions
    if name in CONTRACTIONS:
        return _projected(out, shape)
    if name in POINTWISE | ACTIVATIONS:
        parts = [node.positions for node in out.inputs if node.value.ndim <= len(shape)]
        parts = [part.reshape((1,) * (len(shape) - part.ndim) + part.shape) for part in parts]
        return combined(parts)
    if name in OVER_NEURONS and shape[:-1] == first.value.shape[:-1]:
        inner = first.positions
        return inner if inner.shape[-1] == 1 else filled(UNKNOWN, len(shape))
    return None


def _is_constant(node: Node) -> bool:
    return bool((node.positions == CONSTANT).all())


def _looked_up(args: Any, shape: tuple[int, ...]) -> Tensor | None:
    """Rows of a table, by the token ids."""
    index: list[Any] = [part for part in args[1:] if isinstance(part, Node)]
    index += [part for part in args[1:] if isinstance(part, tuple) and part]
    if len(index) != 1 or not isinstance(index[0], Node):
        return None
    found = index[0].positions
    extra = len(shape) - found.ndim
    return found.reshape(*found.shape, *(1,) * extra) if extra >= 0 else None


def _projected(out: Node, shape: tuple[int, ...]) -> Tensor | None:
    """A contraction of states with weights keeps the tokens of the states."""
    states = [node for node in out.inputs if not _is_constant(node)]
    if len(states) != 1 or out.name in ("einsum", "bmm", "baddbmm", "tensordot"):
        return None
    inner = states[0].positions
    if states[0].value.shape[:-1] != shape[:-1] or inner.shape[-1] != 1:
        return None
    return inner


def _real(value: Any) -> Any:
    if isinstance(value, Node):
        return value.value.cpu()
    if isinstance(value, (tuple, list)):
        return type(value)(_real(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _real(item) for key, item in value.items()}
    return value


def _numbers(node: Node) -> Tensor:
    return node.positions.expand(node.value.shape)


def _moved(func: Any, args: Any, kwargs: Mapping[str, Any], out: Node) -> Tensor | None:
    """The same operation on the numbers."""
    given = dict(kwargs)
    if out.name == "pad":
        given |= {"value": CONSTANT} if given.get("mode", "constant") == "constant" else {}
        args = args[:2]
    if out.name in ("view", "to") and any(isinstance(item, torch.dtype) for item in args[1:]):
        return None
    data = args[0] if args else next(iter(given.values()))
    rest = _real(tuple(args[1:]))
    given = _real(given)
    if isinstance(data, tuple):
        result = func([_numbers(item) for item in data], *rest, **given)
    elif args:
        result = func(_numbers(data), *rest, **given)
    else:
        key = next(iter(kwargs))
        result = func(**(given | {key: _numbers(data)}))
    if out.index is not None:
        result = result[out.index]
    return result if result.shape == out.value.shape else None


def _written(
    func: Any, args: Any, kwargs: Mapping[str, Any], shape: tuple[int, ...]
) -> Tensor | None:
    """Numbers after values were written into places of a tensor."""
    name = getattr(func, "__name__", "")
    base: Node = args[0]
    nodes: list[Any] = [*args[1:], *kwargs.values()]
    total = _numbers(base).clone()
    if name == "copy_":
        whole: Tensor | None = nodes[0].positions if nodes[0].value.shape == shape else None
        return whole
    source = nodes[-1]
    values = _numbers(source) if isinstance(source, Node) else CONSTANT
    places = _real(tuple(nodes[:-1]))
    if name == "__setitem__":
        if not isinstance(values, Tensor):
            return base.positions
        total[places[0]] = values.expand_as(total[places[0]]) if values.ndim else values
    elif not isinstance(values, Tensor):
        return base.positions
    elif name.startswith(("index_copy", "index_add")):
        total.index_copy_(places[0], places[1], values)
    elif name.startswith("scatter"):
        total.scatter_(places[0], places[1], values)
    elif name.startswith("masked_scatter"):
        total.masked_scatter_(places[0].expand(shape), values)
    else:
        total.index_put_(places[0], values)
    return _compact(total)


def _compact(numbers: Tensor) -> Tensor:
    for dim in range(numbers.ndim):
        if numbers.shape[dim] > 1:
            one = numbers.narrow(dim, 0, 1)
            if numbers.stride(dim) == 0 or bool((numbers == one).all()):
                numbers = one
    return numbers.clone()


def through(source: Node, out: Tensor, channels: int) -> Tensor:
    """Numbers of the output of a layer that changes the channels of ``source`` only."""
    shape, numbers = source.value.shape, source.positions
    kept = source.value.ndim == out.ndim and all(
        shape[k] == out.shape[k] for k in range(out.ndim) if k != channels % out.ndim
    )
    return numbers if kept and numbers.shape[channels] == 1 else filled(UNKNOWN, out.ndim)


@dataclass(frozen=True)
class Order:
    """How the rows of a network's states are ordered."""

    time_first: bool
    start: int
    """The first token of each sentence that is here."""
    count: int
    """The number of tokens of each sentence that are here."""
    gaps: tuple[tuple[int, int], ...]
    """Tokens before a run of inserted positions, and the length of that run."""


def rows_of(node: Node, channels: int) -> Tensor:
    """Numbers of the rows of states, flattened in the order of memory."""
    shape = list(node.value.shape)
    numbers = node.positions
    if numbers.shape[channels] != 1:
        return filled(UNKNOWN, 1)
    del shape[channels]
    return numbers.squeeze(channels).expand(shape).reshape(-1)


def order_of(rows: Tensor, batch: int, tokens: int) -> Order | None:
    """The order of the rows; ``None`` if they are not runs of every sentence's tokens."""
    if len(rows) % batch:
        return None
    for time_first in (False, True):
        table = rows.reshape(-1, batch).T if time_first else rows.reshape(batch, -1)
        kept = table >= 0
        local = torch.where(
            kept, table - torch.arange(batch, dtype=torch.long, device="cpu")[:, None] * tokens, -1
        )
        if not bool((local == local[0]).all()) or not bool(kept[0].any()):
            continue
        line = local[0][kept[0]]
        if (
            bool((line != torch.arange(len(line), dtype=torch.long, device="cpu") + line[0]).any())
            or int(line[-1]) >= tokens
        ):
            continue
        return Order(time_first, int(line[0]), len(line), _gaps(kept[0].tolist()))
    return None


def _gaps(kept: list[bool]) -> tuple[tuple[int, int], ...]:
    gaps: dict[int, int] = {}
    before = 0
    for is_token in kept:
        if is_token:
            before += 1
        else:
            gaps[before] = gaps.get(before, 0) + 1
    return tuple(gaps.items())
