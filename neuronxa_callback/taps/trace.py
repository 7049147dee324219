"""Records one forward pass without gradients as a graph of operations.

A ``Trace`` is active while a microbatch runs. Linear layers, norms and experts are recorded as one
operation each; everything between them is recorded as a graph of ``Node``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.modules import (
    contains_linear,
    is_linear,
    is_list_entry,
    is_norm,
    is_single_operation,
    tensors_of,
    unwrapped_path,
    up_to_first_number,
)


@dataclass
class _Frame:
    call: Call
    muted: bool
    """Whether operations inside this call are not recorded."""


class Trace(TorchFunctionMode):
    """Records one forward pass of ``model``; keeps every tensor alive until it is deleted."""

    def __init__(self, model: nn.Module, on_output: Callable[[Call], None] | None = None) -> None:
        """A trace of ``model``.

        Args:
            model: The model that will be called.
            on_output: Called after each module's forward, while sharded weights are gathered.
        """
        super().__init__()
        self._on_output, self._paused = on_output, False
        self.paths = {id(module): unwrapped_path(path) for path, module in model.named_modules()}
        self.calls: list[Call] = []
        self.shape: tuple[int, int] | None = None
        """Sentences and tokens of the microbatch, from the shape of its token ids."""
        self.shifts: dict[int, int] = {}
        """Length of an extended sequence -> number of positions before the first token."""
        self._model = model
        self._ids: Tensor | None = None
        self._nodes: dict[int, Node] = {}
        self._stack: list[_Frame] = []
        self._runs: dict[str, int] = {}
        self._handles: list[Any] = []
        self._has_no_linear = {id(m): not contains_linear(m) for m in model.modules()}

    def __enter__(self) -> Self:
        for module in self._model.modules():
            # Outside of other libraries' hooks, which cast, shard and gather.
            self._handles += [
                module.register_forward_pre_hook(self._before, with_kwargs=True, prepend=True),
                module.register_forward_hook(self._notify, prepend=True),
                module.register_forward_hook(self._after),
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
        """Runs the operation and records it."""
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self._paused and not (self._stack and self._stack[-1].muted):
            self._record_operation(func, args, kwargs, out)
        return out

    def node(self, tensor: Tensor) -> Node:
        """The tensor's node; a new leaf if the tensor has not been recorded."""
        known = self._nodes.get(id(tensor))
        if known is None:
            known = self._nodes[id(tensor)] = Node(tensor)
        return known

    def nodes(self) -> Iterator[Node]:
        """Every recorded tensor, in the order in which they were produced."""
        return iter(self._nodes.values())

    def _record_operation(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        results: list[tuple[int | None, Tensor]] = []
        if isinstance(out, Tensor):
            results = [(None, out)]
        if isinstance(out, (tuple, list)):
            results = [(k, item) for k, item in enumerate(out) if isinstance(item, Tensor)]
        if getattr(func, "__name__", "") == "__setitem__":
            results = [(None, args[0])]
        if not results:
            return
        node_args, node_kwargs = self._with_nodes(args), self._with_nodes(kwargs)
        for index, result in results:
            if id(result) in self._nodes:
                self._nodes[id(result)].overwritten = True
            node = Node(result, func, node_args, node_kwargs, index)
            node.within = self._stack[-1].call.path if self._stack else ""
            self._nodes[id(result)] = node
        self._record_shift(func, args, kwargs, results[0][1])

    def _with_nodes(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._with_nodes(item) for item in value)
        if isinstance(value, Mapping):
            return {key: self._with_nodes(item) for key, item in value.items()}
        return value

    def _record_shift(self, func: Any, args: Any, kwargs: Any, out: Tensor) -> None:
        """Records where the tokens are in an extended sequence (prompts, padding to windows)."""
        if self.shape is None or out.ndim < 2 or out.shape[0] != self.shape[0]:
            return
        length, name = out.shape[1], getattr(func, "__name__", "")
        if length <= self.shape[1] or length in self.shifts:
            return
        if name == "cat" and args and not isinstance(args[0], Tensor):
            sizes = [part.shape[1] if self._is_per_token(part) else -1 for part in args[0]]
            lengths = [part.shape[1] if part.ndim > 1 else 0 for part in args[0]]
            if self.shape[1] in sizes and sum(lengths) == length:
                self.shifts[length] = sum(lengths[: sizes.index(self.shape[1])])
        elif name == "pad" and self._is_per_token(args[0]):
            pads = [*args[1:2], kwargs.get("pad")][0]
            front = pads[2 * (out.ndim - 2)] if len(pads) > 2 * (out.ndim - 2) else 0
            self.shifts[length] = front

    def _is_per_token(self, tensor: Tensor) -> bool:
        """Whether the tensor is the token ids, or has one state per token."""
        if self.shape is None or tensor.ndim < 2 or tuple(tensor.shape[:2]) != self.shape:
            return False
        return tensor.ndim == 3 or self.node(tensor).root().value is self._ids

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self._paused:
            return
        self._find_tokens(args, kwargs)
        path = self.paths[id(module)]
        self._runs[path] = self._runs.get(path, 0) + 1
        outer = tuple(frame.call for frame in self._stack)
        around = (*(call.path for call in outer), path)
        # Some models run the forward of a block directly, so that the block has no call.
        block = next((p for p in around if is_list_entry(p)), up_to_first_number(path))
        run = self._runs.get(block, 0)
        call = Call(path, module, args, kwargs, outer, len(self.calls), (block, run))
        if call.input is not None:
            call.source = self.node(call.input)
        muted = bool(self._stack and self._stack[-1].muted)
        if not muted:
            self.calls.append(call)
        self._stack.append(_Frame(call, muted or is_linear(module) or is_single_operation(module)))

    def _notify(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._paused or any(frame.muted for frame in self._stack[:-1]):
            return
        call = self._stack[-1].call
        call.output = out
        if self._on_output is not None:
            self._paused = True
            try:
                self._on_output(call)
            finally:
                self._paused = False

    def _after(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._paused:
            return
        call = self._stack.pop().call
        if any(frame.muted for frame in self._stack):
            return
        if self._has_no_linear[id(module)] or is_linear(module):
            # I-BERT's layers return a scale next to the states.
            out = next(tensors_of(out), out)
        call.output = out
        if isinstance(out, Tensor) and call.source is not None:
            self._record_module(call, out, call.source)

    def _record_module(self, call: Call, out: Tensor, source: Node) -> None:
        module = call.module
        if is_linear(module):
            self._add_module_node(out, "linear", call)
        elif is_norm(module):
            self._add_module_node(out, "norm", call)
        elif (
            self._has_no_linear[id(module)]
            and out.shape == source.value.shape
            and out is not source.value
        ):
            if self.node(out).unknown:
                self._add_module_node(out, "module", call)
            if self.node(out).root() is not source.root():
                self.node(out).modules.append(call.path)

    def _add_module_node(self, out: Tensor, kind: str, call: Call) -> None:
        inputs = [self.node(tensor) for tensor in tensors_of((call.args, call.kwargs))]
        node = Node(out, kind, inputs)
        node.path, node.module = call.path, call.module
        self._nodes[id(out)] = node

    def _find_tokens(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.shape is not None:
            return
        for ids in (kwargs.get("input_ids"), *args[:1]):
            if isinstance(ids, Tensor) and not ids.is_floating_point() and ids.ndim > 1:
                self.shape, self._ids = (ids.shape[0], ids.shape[-1]), ids
                return
