"""What happens between a model's linear layers, seen in one forward pass without gradients.

A ``Trace`` is on while a microbatch runs. Linear layers, norms and experts are taken as one
operation each; everything between them is recorded as a graph of ``Node``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuronxa_callback.taps.modules import (
    clean,
    holds_linear,
    is_linear,
    is_norm,
    numbered,
    numbered_part,
    opaque,
    tensors_of,
)


def names(text: str) -> frozenset[str]:
    """A table of operations, written as words."""
    return frozenset(text.split())


LAYOUT = names(
    "view reshape _unsafe_view view_as reshape_as transpose permute contiguous squeeze unsqueeze "
    "flatten unflatten movedim swapaxes clone detach dropout alias requires_grad_ t __get__"
)
"""Operations that leave the values as they are; dropout too, since probes run in eval mode."""
CASTS = names("to type float half bfloat16 double type_as")


class Node:
    """One tensor of the trace and the operation that made it."""

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
        self.module: nn.Module | None = None
        """Whose output this is, where the operation is a module."""
        self.overwritten = False
        """Whether a later operation wrote into this very tensor."""
        self.modules: list[str] = []
        """Paths of pointwise modules whose output this is."""
        self.within = ""
        """The innermost module that ran when it was made."""

    @property
    def name(self) -> str:
        """The operation's name; ``linear``, ``norm``, ``module``, ``leaf`` are our own."""
        return self.op if isinstance(self.op, str) else getattr(self.op, "__name__", "?")

    @property
    def inputs(self) -> list["Node"]:
        """The tensors that the operation read, in order."""
        return list(_nodes((self.args, self.kwargs)))

    @property
    def unknown(self) -> bool:
        """Whether the values came from where a trace cannot look: a kernel, a custom function."""
        return self.name in ("leaf", "empty_like", "empty", "new_empty", "zeros_like")

    @property
    def keeps(self) -> bool:
        """Whether the values are those of the first input, elsewhere or as another type."""
        return self.name in LAYOUT or self.name in CASTS

    def root(self) -> "Node":
        """The tensor whose values these are."""
        node = self
        while node.keeps and node.inputs:
            node = node.inputs[0]
        return node


def _nodes(template: Any) -> Iterator[Node]:
    if isinstance(template, Node):
        yield template
    elif isinstance(template, (tuple, list)):
        for each in template:
            yield from _nodes(each)
    elif isinstance(template, Mapping):
        for each in template.values():
            yield from _nodes(each)


@dataclass(eq=False)
class Call:
    """One call of a module: what went in, what came out, and inside of what."""

    path: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outer: tuple["Call", ...]
    """The calls around it, outermost first."""
    order: int
    """How many calls came before."""
    block: tuple[str, int]
    """The numbered block around it, and how often that was entered before."""
    source: Node | None = None
    output: Any = None

    @property
    def input(self) -> Tensor | None:
        """The first tensor argument, while the trace is kept."""
        return next(tensors_of((self.args, self.kwargs)), None)


@dataclass
class _Frame:
    call: Call
    muted: bool


class Trace(TorchFunctionMode):
    """Records one forward pass of ``model``; every tensor stays alive until it is dropped."""

    def __init__(self, model: nn.Module, leaving: Callable[[Call], None] | None = None) -> None:
        """A trace of ``model``.

        Args:
            model: What will be called.
            leaving: Called after each module, while sharded weights are still gathered.
        """
        super().__init__()
        self._leaving, self._paused = leaving, False
        self.paths = {id(module): clean(path) for path, module in model.named_modules()}
        self.calls: list[Call] = []
        self.shape: tuple[int, int] | None = None
        """Sentences and tokens of the microbatch, as its token ids came in."""
        self.shifts: dict[int, int] = {}
        """Length of a lengthened sequence -> tokens put in front of it."""
        self._model = model
        self._ids: Tensor | None = None
        self._nodes: dict[int, Node] = {}
        self._stack: list[_Frame] = []
        self._entered: dict[str, int] = {}
        self._handles: list[Any] = []
        self._flat = {id(m): not holds_linear(m) for m in model.modules()}

    def __enter__(self) -> Self:
        for module in self._model.modules():
            # Around the hooks of others, which cast, shard and gather.
            self._handles += [
                module.register_forward_pre_hook(self._enter, with_kwargs=True, prepend=True),
                module.register_forward_hook(self._ran, prepend=True),
                module.register_forward_hook(self._leave),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation and notes it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._paused and not (self._stack and self._stack[-1].muted):
            self._note(func, args, kwargs, out)
        return out

    def node(self, tensor: Tensor) -> Node:
        """The tensor's node; a leaf where nothing is known of it."""
        known = self._nodes.get(id(tensor))
        if known is None:
            known = self._nodes[id(tensor)] = Node(tensor)
        return known

    def nodes(self) -> Iterator[Node]:
        """Every tensor that is known, in the order in which they were made."""
        return iter(self._nodes.values())

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        results: list[tuple[int | None, Tensor]] = []
        if isinstance(out, Tensor):
            results = [(None, out)]
        if isinstance(out, (tuple, list)):
            results = [(k, each) for k, each in enumerate(out) if isinstance(each, Tensor)]
        if getattr(func, "__name__", "") == "__setitem__":
            results = [(None, args[0])]
        if not results:
            return
        given, named_ = self._template(args), self._template(kwargs)
        for index, each in results:
            if id(each) in self._nodes:
                self._nodes[id(each)].overwritten = True
            self._nodes[id(each)] = made = Node(each, func, given, named_, index)
            made.within = self._stack[-1].call.path if self._stack else ""
        self._lengthened(func, args, kwargs, results[0][1])

    def _template(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._template(each) for each in value)
        if isinstance(value, Mapping):
            return {key: self._template(each) for key, each in value.items()}
        return value

    def _lengthened(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        """Notes where a longer sequence (prompts, padding to windows) has the tokens."""
        if self.shape is None or out.ndim < 2 or out.shape[0] != self.shape[0]:
            return
        longer, name = out.shape[1], getattr(func, "__name__", "")
        if longer <= self.shape[1] or longer in self.shifts:
            return
        if name == "cat" and args and not isinstance(args[0], Tensor):
            sizes = [each.shape[1] if self._tokenlike(each) else -1 for each in args[0]]
            whole = [each.shape[1] if each.ndim > 1 else 0 for each in args[0]]
            if self.shape[1] in sizes and sum(whole) == longer:
                self.shifts[longer] = sum(whole[: sizes.index(self.shape[1])])
        elif name == "pad" and self._tokenlike(args[0]):
            pads = [*args[1:2], kwargs.get("pad")][0]
            front = pads[2 * (out.ndim - 2)] if len(pads) > 2 * (out.ndim - 2) else 0
            self.shifts[longer] = front

    def _tokenlike(self, tensor: Tensor) -> bool:
        """Whether these are the token ids, or a state for each of them."""
        if self.shape is None or tensor.ndim < 2 or tuple(tensor.shape[:2]) != self.shape:
            return False
        return tensor.ndim == 3 or self.node(tensor).root().value is self._ids

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._paused:
            return
        self._see_tokens(args, kwargs)
        path = self.paths[id(module)]
        self._entered[path] = self._entered.get(path, 0) + 1
        outer = tuple(frame.call for frame in self._stack)
        around = (*(call.path for call in outer), path)
        # Some blocks are run by their forward alone, without a call.
        block = next((each for each in around if numbered(each)), numbered_part(path))
        times = self._entered.get(block, 0)
        call = Call(path, module, args, kwargs, outer, len(self.calls), (block, times))
        if call.input is not None:
            call.source = self.node(call.input)
        muted = bool(self._stack and self._stack[-1].muted)
        if not muted:
            self.calls.append(call)
        self._stack.append(_Frame(call, muted or is_linear(module) or opaque(module)))

    def _ran(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._paused or any(frame.muted for frame in self._stack[:-1]):
            return
        call = self._stack[-1].call
        call.output = out
        if self._leaving is not None:
            self._paused = True
            try:
                self._leaving(call)
            finally:
                self._paused = False

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._paused:
            return
        call = self._stack.pop().call
        if any(frame.muted for frame in self._stack):
            return
        if self._flat[id(module)] or is_linear(module):
            # Some give a scale beside the states (I-BERT).
            out = next(tensors_of(out), out)
        call.output = out
        if isinstance(out, Tensor) and call.source is not None:
            self._noted(call, out, call.source)

    def _noted(self, call: Call, out: Tensor, source: Node) -> None:
        module = call.module
        if is_linear(module):
            self._made(out, "linear", call)
        elif is_norm(module):
            self._made(out, "norm", call)
        elif self._flat[id(module)] and out.shape == source.value.shape and out is not source.value:
            if self.node(out).unknown:
                self._made(out, "module", call)
            if self.node(out).root() is not source.root():
                self.node(out).modules.append(call.path)

    def _made(self, out: Tensor, kind: str, call: Call) -> None:
        inputs = [self.node(each) for each in tensors_of((call.args, call.kwargs))]
        node = Node(out, kind, inputs)
        node.path, node.module = call.path, call.module
        self._nodes[id(out)] = node

    def _see_tokens(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.shape is not None:
            return
        for each in (kwargs.get("input_ids"), *args[:1]):
            if isinstance(each, Tensor) and not each.is_floating_point() and each.ndim > 1:
                self.shape, self._ids = (each.shape[0], each.shape[-1]), each
                return
