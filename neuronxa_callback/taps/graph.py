"""The graph of one forward pass: tensors, the operations between them, and the module calls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.taps.modules import tensors_of


def operation_names(text: str) -> frozenset[str]:
    """A set of operation names, written as one text with spaces."""
    return frozenset(text.split())


LAYOUT = operation_names(
    "view reshape _unsafe_view view_as reshape_as transpose permute contiguous squeeze unsqueeze "
    "flatten unflatten movedim swapaxes clone detach dropout alias requires_grad_ t __get__"
)
"""Operations that keep the values; dropout is one of them, since a probe runs in eval mode."""
CASTS = operation_names("to type float half bfloat16 double type_as")


class Node:
    """One tensor of the graph and the operation that produced it."""

    def __init__(
        self,
        value: Tensor,
        op: Callable[..., Any] | str = "leaf",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        index: int | None = None,
    ) -> None:
        self.value, self.op, self.args, self.kwargs = value, op, args, kwargs or {}
        self.index = index
        self.path = ""
        """Path of the linear layer that returned it, or ``module path:name`` of a weight."""
        self.positions = torch.full((1,) * value.ndim, -3, dtype=torch.long, device="cpu")
        """Which token each value belongs to, see ``flow.positions``."""
        self.module: nn.Module | None = None
        """The module that returned this tensor, if the operation is a module."""
        self.overwritten = False
        """Whether a later operation wrote into this tensor."""
        self.modules: list[str] = []
        """Paths of the pointwise modules that returned this tensor."""
        self.block: tuple[str, int] = ("", 0)
        """The block and its run in which a module returned the tensor."""
        self.within = ""
        """Path of the innermost module that was running when the tensor was produced."""

    @property
    def name(self) -> str:
        """The operation's name, or ``linear``, ``norm``, ``module`` or ``leaf``."""
        return self.op if isinstance(self.op, str) else getattr(self.op, "__name__", "?")

    @property
    def inputs(self) -> list["Node"]:
        """The tensors that the operation read, in order."""
        return list(_nodes((self.args, self.kwargs)))

    @property
    def constant(self) -> bool:
        """Whether the values depend on no token."""
        return bool((self.positions == -1).all())

    @property
    def unknown(self) -> bool:
        """Whether the values come from code that cannot be traced: a kernel, a custom function."""
        return self.name in ("leaf", "empty_like", "empty", "new_empty", "zeros_like")

    @property
    def keeps_values(self) -> bool:
        """Whether the operation only moves, reshapes or casts its first input."""
        return self.name in LAYOUT or self.name in CASTS

    def root(self) -> "Node":
        """The earliest tensor that has the same values."""
        node = self
        while node.keeps_values and node.inputs:
            node = node.inputs[0]
        return node


def _nodes(template: Any) -> Iterator[Node]:
    if isinstance(template, Node):
        yield template
    elif isinstance(template, (tuple, list)):
        for item in template:
            yield from _nodes(item)
    elif isinstance(template, Mapping):
        for item in template.values():
            yield from _nodes(item)


@dataclass(eq=False)
class Call:
    """One call of a module: its arguments, its output and the calls around it."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outer: tuple["Call", ...]
    """The calls around it, outermost first."""
    order: int
    """The number of calls before it."""
    block: tuple[str, int]
    """Path of the numbered block around it, and the index of this run of the block (from 1)."""
    source: Node | None = None
    """The node of the input."""
    output: Any = None
    linear: bool = False
    """Whether the module acts as one linear layer."""
    result: Node | None = None
    """The node of the output of a linear layer."""

    @property
    def input(self) -> Tensor | None:
        """The first tensor argument, as long as the trace exists."""
        return next(tensors_of((self.args, self.kwargs)), None)
