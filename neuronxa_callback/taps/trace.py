"""Records one forward pass without gradients as a graph of operations.

A ``Trace`` is active while a microbatch runs. Linear layers, norms and experts are recorded as one
operation each; everything between them is recorded as a graph of ``Node``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neuronxa_callback.taps.flow import positions
from neuronxa_callback.taps.flow.calls import (
    acts_as_linear,
    is_single,
    path_of_weight,
    paths_of_weights,
    storage,
    token_ids,
    twice,
)
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.modules import (
    block_path,
    channel_dim,
    contains_linear,
    is_linear,
    is_norm,
    is_single_operation,
    stage_paths,
    tensors_of,
    unwrapped_path,
)


@dataclass
class _Frame:
    call: Call
    muted: bool
    """Whether operations inside this call are not recorded."""


class Trace(TorchFunctionMode):
    """Records one forward pass of ``model``; keeps every tensor alive until it is deleted.

    An error of the recording is raised at the end: inside of a forward, other ranks may wait.
    """

    def __init__(self, model: nn.Module, on_output: Callable[[Call], None] | None = None) -> None:
        """``on_output`` is called after each module's forward, while its weights are gathered."""
        super().__init__()
        self._on_output, self._paused = on_output, False
        self._error: Exception | None = None
        self.paths = {id(module): unwrapped_path(path) for path, module in model.named_modules()}
        self.doubles = True
        """Whether a single sentence runs as two equal ones, so that its axes are distinct."""
        self.calls: list[Call] = []
        self.shape: tuple[int, int] | None = None
        """Sentences and tokens of the microbatch, from the shape of its token ids."""
        self.escaped: set[str] = set()
        """Paths of the modules that turned states or weights into Python numbers."""
        self.scripted: list[str] = []
        """Paths of the modules that torch.jit compiled: they cannot be traced."""
        self.recorded: list[Node] = []
        """Every result of an operation or a module, in order."""
        self.model, self._stages = model, stage_paths(model)
        self._nodes: dict[int, Node] = {}
        self._stack: list[_Frame] = []
        self._runs: dict[str, int] = {}
        self._handles: list[Any] = []
        self._has_no_linear = {id(m): not contains_linear(m) for m in model.modules()}
        self._weights = paths_of_weights(model, self.paths)
        self._storages: dict[int, list[Node]] = {}

    def __enter__(self) -> Self:
        for module in self.model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                self.scripted.append(self.paths[id(module)])
                continue
            # Outside of other libraries' hooks, which cast, shard and gather.
            self._handles += [
                module.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
                module.register_forward_hook(partial(self._record, self._notify), prepend=True),
                module.register_forward_hook(partial(self._record, self._after)),
            ]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()
        if self._error is not None and error[0] is None:
            raise self._error

    def _record(self, record: Callable[..., None], *args: Any) -> None:
        """Runs a part of the recording; after an error, nothing more is recorded."""
        try:
            record(*args)
        except Exception as error:
            self._error, self._paused = self._error or error, True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation and records it."""
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "glu" and not self._paused:
            return self._gated_linear_unit(*args, **kwargs)
        out = func(*args, **kwargs)
        if not self._paused and not (self._stack and self._stack[-1].muted):
            self._record(self._record_operation, func, args, kwargs, out)
        return out

    def node(self, tensor: Tensor) -> Node:
        """The tensor's node; a new leaf if the tensor has not been recorded."""
        known = self._nodes.get(id(tensor))
        if known is None:
            known = self._nodes[id(tensor)] = Node(tensor)
            known.path = self._weight_path(tensor)
            constant = known.path or tensor.ndim <= 1 or isinstance(tensor, nn.Parameter)
            known.positions = positions.filled(
                positions.CONSTANT if constant else positions.UNKNOWN, tensor.ndim
            )
        return known

    def nodes(self) -> Iterator[Node]:
        """Every recorded tensor, in the order in which they were produced."""
        return iter(self._nodes.values())

    def _weight_path(self, tensor: Tensor) -> str:
        path = self._weights.get(id(tensor), "")
        if path or not isinstance(tensor, nn.Parameter):
            return path
        return path_of_weight(tensor, [frame.call for frame in reversed(self._stack)])

    def _gated_linear_unit(self, inputs: Tensor, dim: int = -1) -> Tensor:
        """Runs ``glu`` as the three operations that it consists of."""
        value, gate = self.__torch_function__(torch.chunk, (), (inputs, 2, dim))
        bound = self.__torch_function__(torch.sigmoid, (), (gate,))
        return self.__torch_function__(torch.mul, (), (value, bound))  # type: ignore[no-any-return]

    def _record_operation(self, func: Any, args: Any, kwargs: Any, out: Any) -> None:
        results: list[tuple[int | None, Tensor]] = []
        if isinstance(out, Tensor):
            results = [(None, out)]
        if isinstance(out, (tuple, list)):
            results = [(k, item) for k, item in enumerate(out) if isinstance(item, Tensor)]
        if getattr(func, "__name__", "") == "__setitem__":
            results = [(None, args[0])]
        if not results:
            self._record_escape(func, args)
            return
        node_args, node_kwargs = self._with_nodes(args), self._with_nodes(kwargs)
        for index, result in results:
            given = {key: value for key, value in node_kwargs.items() if key != "out"}
            node = Node(result, func, node_args, given, index)
            node.within = self._stack[-1].call.path if self._stack else ""
            node.positions = positions.follow(func, node_args, given, node)
            self._add(result, node, id(result) in self._nodes)

    def _add(self, result: Tensor, node: Node, overwrites: bool) -> None:
        sharing = self._storages.setdefault(storage(result), [])
        if overwrites:
            for other in sharing:
                other.overwritten = True
        sharing.append(node)
        self._nodes[id(result)] = node
        self.recorded.append(node)

    def _record_escape(self, func: Any, args: Any) -> None:
        name = getattr(func, "__name__", "")
        if name not in ("item", "tolist", "__float__", "numpy") or not self._stack:
            return
        value = args[0] if args else None
        if isinstance(value, Tensor) and value.is_floating_point():
            self.escaped.add(self._stack[-1].call.path)

    def _with_nodes(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, (tuple, list)):
            return tuple(self._with_nodes(item) for item in value)
        if isinstance(value, Mapping):
            return {key: self._with_nodes(item) for key, item in value.items()}
        return value

    def _begin(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._paused:
            return None
        changed = None
        if self.doubles and not self._stack and is_single(args, kwargs):
            # With one sentence, sentences and tokens cannot be told apart.
            changed = args, kwargs = twice(args), twice(kwargs)
        self._record(self._before, module, args, kwargs)
        return changed

    def _before(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._find_tokens(args, kwargs)
        path = self.paths[id(module)]
        self._runs[path] = self._runs.get(path, 0) + 1
        outer = tuple(frame.call for frame in self._stack)
        around = (*(call.path for call in outer), path)
        # Some models run the forward of a block directly, so that the block has no call.
        block = block_path(around, self._stages)
        run = self._runs.get(block, 0)
        call = Call(path, module, args, kwargs, outer, len(self.calls), (block, run))
        if call.input is not None:
            call.source = self.node(call.input)
        muted = bool(self._stack and self._stack[-1].muted)
        if not muted:
            self.calls.append(call)
        call.linear = is_linear(module)
        self._stack.append(_Frame(call, muted or call.linear or is_single_operation(module)))

    def _notify(self, module: nn.Module, args: Any, out: Any) -> None:
        if self._paused or any(frame.muted for frame in self._stack[:-1]):
            return
        call = self._stack[-1].call
        call.output = out
        if self._on_output is not None:
            self._paused = True
            self._on_output(call)
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
        inputs = tensors_of((call.args, call.kwargs))
        if call.source is not None and all(self.node(tensor).constant for tensor in inputs):
            for tensor in tensors_of(out):
                if self.node(tensor).op == "leaf":
                    self.node(tensor).positions = positions.filled(positions.CONSTANT, tensor.ndim)
        self._keep_stream(call, out)
        if isinstance(out, Tensor) and call.source is not None:
            self._record_module(call, out, call.source)

    def _keep_stream(self, call: Call, out: Any) -> None:
        """The output of a block has the tokens of its input, if these cannot be followed inside."""
        first = next(tensors_of(out), None)
        if first is None or call.source is None or call.path != call.block[0]:
            return
        node = self.node(first)
        if first.shape == call.source.value.shape and bool((node.positions < -1).any()):
            node.positions = call.source.positions

    def _record_module(self, call: Call, out: Tensor, source: Node) -> None:
        module = call.module
        if self._has_no_linear[id(module)] and acts_as_linear(self.node(out), source):
            call.linear = True
        if call.linear:
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
        node.within, node.block, call.result = call.path, call.block, node
        dim = channel_dim(call.module) if call.linear else -1
        assert call.source is not None
        node.positions = positions.through(call.source, out, dim)
        self._add(out, node, overwrites=False)

    def _find_tokens(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.shape is not None:
            return
        for ids in token_ids(args, kwargs):
            shape = (ids.shape[0], ids.shape[-1])
            self.shape = self.shape or shape
            if shape == self.shape:
                middle = (1,) * (ids.ndim - 2)
                numbers = positions.numbered(shape).reshape(shape[0], *middle, shape[1])
                self.node(ids).positions = numbers
