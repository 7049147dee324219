"""Finds the feed-forward networks that ran in one forward pass, and a tap for each of them."""

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.dense_networks import dense_network, dense_tap, ffn_input_of
from neuronxa_callback.taps.experts.hooks import ExpertsTap
from neuronxa_callback.taps.experts.modules import (
    expert_group,
    experts_of_group,
    is_same_expert,
)
from neuronxa_callback.taps.experts.recipes import find_recipe
from neuronxa_callback.taps.experts.stacked import Recipe, is_experts
from neuronxa_callback.taps.flow.positions import MIXED, Order, order_of, rows_of
from neuronxa_callback.taps.flow.streams import (
    leave_out_adapters,
    refuse_lone_networks,
    refuse_second_streams,
    refuse_uncertain,
)
from neuronxa_callback.taps.flow.unread import refuse_unread_networks
from neuronxa_callback.taps.flow.unread_experts import refuse_unread_experts
from neuronxa_callback.taps.flow.use import Use
from neuronxa_callback.taps.fused_kernels import KernelMatch, match_module
from neuronxa_callback.taps.graph import Call
from neuronxa_callback.taps.hooks import RecomputedTap, StateLayout
from neuronxa_callback.taps.layers import FoundFFN, Pass, label_layers, stack_of
from neuronxa_callback.taps.modules import channel_dim
from neuronxa_callback.taps.norm_networks import match_norm_network
from neuronxa_callback.taps.override import Override, chosen_by_user
from neuronxa_callback.taps.trace import Trace


class Discovery:
    """Watches one forward pass inside ``trace``; then ``networks`` gives the result."""

    def __init__(self, model: nn.Module, override: Override, stack: str) -> None:
        self.model, self.stack = model, stack
        self.trace = Trace(model, self._on_output)
        self.chosen, self.by_pattern = chosen_by_user(override, model), isinstance(override, str)
        self.recipes: dict[str, Recipe] = {}
        self.kernels: dict[str, KernelMatch] = {}
        self.errors: dict[str, TapError] = {}
        self.place = ""
        """Path of the module that is examined."""
        self.empty: list[Call] = []
        """Calls of linear layers that got no rows."""
        self._found: dict[str, FoundFFN] = {}
        self._numbers: dict[str, int] = {}
        self._ignored: dict[str, list[int]] = {}

    def networks(self) -> list[FoundFFN]:
        """Every feed-forward network that ran; its passes are labelled by layer.

        Raises:
            TapError: If there is none, or one cannot be read.
        """
        self.use = Use(self.trace)
        for call in self.trace.calls:
            self.place = call.path
            self._add(call)
        if self.chosen is None:
            leave_out_adapters(self._found)
        networks = label_layers(list(self._found.values()), self.model, self.stack)
        self._check_chosen()
        unread = [error for path, error in self.errors.items() if path not in self._found]
        if not networks:
            raise next(iter(self.errors.values()), None) or TapError(_none_found(self.model))
        if unread:
            raise unread[0]
        if self.chosen is None:
            refuse_unread_experts(self.trace, self._found)
            refuse_unread_networks(self.use, self._found)
            refuse_uncertain(self.trace, self._found, self.empty)
            refuse_second_streams(self.trace, networks)
            refuse_lone_networks(self.trace, networks)
        _, tokens = self.trace.shape or (0, 0)
        # If some networks of a stack run on exactly the tokens, longer inputs are not padding.
        unpadded = {stack_of(ffn.path) for ffn in networks if ffn.length == tokens}
        for ffn in networks:
            if ffn.refusal:
                raise TapError(ffn.refusal)
            longer = ffn.length > tokens and ffn.tap_has_no_gap
            if ffn.rows or (longer and stack_of(ffn.path) in unpadded):
                raise TapError(_other_positions(ffn, tokens))
        return networks

    def _check_chosen(self) -> None:
        # A regular expression may match layers that did not run: experts without tokens.
        chosen = {} if self.chosen is None or self.by_pattern else self.chosen
        groups = tuple(f"{path}." for path in self._found)
        unmet = [p for p in chosen if p not in self._found and not p.startswith(groups)]
        if unmet:
            raise TapError(
                "neuron_modules must name linear layers that run on the tokens, got "
                f"{unmet[0]!r}, which did not run on them"
            )

    def _on_output(self, call: Call) -> None:
        # Checked during the forward pass, while the weights of sharded models are gathered.
        if self.chosen is not None and call.path not in self.chosen:
            return
        try:
            if is_experts(call.module):
                if call.path not in self.recipes and isinstance(call.output, Tensor):
                    self.recipes[call.path] = find_recipe(
                        call.path, call.module, call.args, call.kwargs, call.output
                    )
            elif call.path not in self.kernels and not call.linear:
                kernel = match_norm_network(call) or match_module(call, self.trace.calls)
                if kernel is not None:
                    self.kernels[call.path] = kernel
        except TapError as error:
            self.errors[call.path] = error

    def _add(self, call: Call) -> None:
        if call.path in self.recipes:
            self._add_experts(call, self.recipes[call.path])
        elif call.path in self.kernels:
            self._add_kernel(call, self.kernels[call.path])
        elif call.linear and call.source is not None:
            self._add_linear(call)

    def _add_experts(self, call: Call, recipe: Recipe) -> None:
        ffn = FoundFFN(
            call.path,
            "routed",
            recipe.experts * recipe.width,
            "rows of the kernel where their order is known, else computed from the input",
            ExpertsTap(call.path, recipe),
            experts=recipe.experts,
        )
        self._found.setdefault(call.path, ffn).passes.append(Pass(call.block, call.order))

    def _add_kernel(self, call: Call, kernel: KernelMatch) -> None:
        ffn = FoundFFN(
            call.path,
            kernel.kind,
            kernel.width,
            f"computed from the input of {call.path}: {kernel.description}",
            RecomputedTap(call.path, kernel.states, _layout(call, -1, self._order(call, -1)[0])),
        )
        self._count(ffn, call, -1)

    def _order(self, call: Call, channels: int) -> tuple[Order | None, str]:
        """The order of the rows, and what they are otherwise."""
        assert call.source is not None
        batch, tokens = self.trace.shape or (1, 1)
        rows = rows_of(call.source, channels)
        if bool((rows == MIXED).any()):
            # RWKV: a network mixes each token with the one before it.
            rows = next(
                (found for each in reversed(call.outer) if _fits(found := _rows(each), rows)), rows
            )
        if not bool((rows >= 0).any()):
            return None, "constant" if bool((rows == -1).all()) else "unknown"
        return order_of(rows, batch, tokens), "moved"

    def _add_linear(self, call: Call) -> None:
        if self.chosen is not None and call.path not in self.chosen:
            return
        assert call.input is not None
        if not call.input.numel():
            self.empty.append(call)
            return
        ffn_input, kernel_gate = ffn_input_of(call, self.trace, self.chosen is not None, self.use)
        if ffn_input is None:
            return
        channels = channel_dim(call.module)
        order, _ = self._order(call, channels)
        gate_path = (self.chosen or {}).get(call.path, "")
        layout = _layout(call, channels, order)
        tap = dense_tap(call, ffn_input, self.trace, layout, gate_path, kernel_gate)
        if group := expert_group(call, ffn_input, self.trace, order is not None):
            around = group.around
            if around.path not in self._found:
                self._found[around.path] = experts_of_group(self.model, ffn_input, tap, group)
            found = self._found[around.path]
            if not is_same_expert(found, tap):
                found.refusal = (
                    f"the experts in {around.path} must be built alike, but {call.path} is "
                    "another network than the first; leave them out with neuron_modules="
                )
            if all(one.call != around.order for one in found.passes):
                found.passes.append(Pass(call.block, around.order))
            return
        ffn = dense_network(ffn_input, tap)
        if self.chosen is None and self.use.chosen_by_weight(call):
            ffn.refusal = (
                f"experts must run on the tokens that are routed to them, but {call.path} runs on "
                "all tokens and a weight switches its output off; pass the networks that can be "
                "read as neuron_modules="
            )
        self._count(ffn, call, channels)

    def _count(self, ffn: FoundFFN, call: Call, channels: int) -> None:
        """Adds a pass if this call starts one; consecutive chunks of tokens form one pass."""
        assert call.input is not None
        batch, tokens = self.trace.shape or (1, 1)
        number = self._numbers[call.path] = self._numbers.get(call.path, -1) + 1
        ignored = self._ignored.setdefault(call.path, [])
        order, kind = self._order(call, channels)
        if kind == "constant" and self.chosen is None:
            # Networks that make virtual tokens, or that run on global states.
            ignored.append(number)
            return
        ffn = self._found.setdefault(call.path, ffn)
        ffn.ignored = ignored
        rows = call.input.numel() // call.input.shape[channels]
        ffn.length = rows // batch
        if order is not None:
            rows = batch * order.count
            if order.start != ffn.rows // batch:
                order, kind = None, "moved"
        other = rows != batch * tokens and kind == "unknown"
        if other and ffn.rows == 0 and ffn.passes and ffn.single_call:
            # PEGASUS-X: the network also runs on global states, which are not tokens.
            ignored.append(number)
            return
        if kind == "moved" and order is None:
            ffn.refusal = ffn.refusal or (
                f"every feed-forward network must get the tokens of each sentence in their order, "
                f"but {call.path} gets them sorted, mixed or in part; pass the networks that can "
                "be read as neuron_modules="
            )
        if ffn.rows == 0:
            # A block whose forward is run directly has no calls of its own.
            block = call.block if call.block[1] else (call.block[0], len(ffn.passes))
            ffn.passes.append(Pass(block, call.order))
        ffn.single_call = ffn.single_call and rows == batch * tokens
        ffn.rows += rows
        if ffn.rows >= batch * tokens and (order is not None or ffn.rows == batch * tokens):
            ffn.rows = 0


def _rows(call: Call) -> Tensor:
    return (
        torch.full((1,), MIXED, dtype=torch.long, device="cpu")
        if call.source is None
        else rows_of(call.source, -1)
    )


def _fits(found: Tensor, rows: Tensor) -> bool:
    return len(found) == len(rows) and bool((found >= 0).any()) and not bool((found == MIXED).any())


def _layout(call: Call, channels: int, order: Order | None) -> StateLayout:
    assert call.source is not None
    first = channels == 1
    if order is None:
        return StateLayout(first)
    last = order.start + order.count
    names = {0: "front", last - 1: "last", 1: "first", last: "behind"}
    if last < 3:
        names = {0: "front", last: "behind"}
    gaps = tuple((names.get(before, "inside"), count) for before, count in order.gaps)
    return StateLayout(first, order.time_first, gaps)


def _other_positions(ffn: FoundFFN, tokens: int) -> str:
    return (
        f"every feed-forward network must run on every token, but {ffn.path} runs on {ffn.length} "
        f"positions for {tokens} tokens (pooled, packed or latent); pass the networks that run on "
        "every token as neuron_modules="
    )


def _none_found(model: nn.Module) -> str:
    return (
        f"no feed-forward network found in {type(model).__name__}: no linear layer of a numbered "
        "block reads a pointwise non-linear function of other linear layers; pass the down "
        "projections as neuron_modules="
    )
