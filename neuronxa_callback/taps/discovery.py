"""Finds the feed-forward networks that ran in one forward pass, and a tap for each of them."""

from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.dense_networks import dense_network, dense_tap, ffn_input_of
from neuronxa_callback.taps.expert_hooks import ExpertsTap
from neuronxa_callback.taps.expert_recipes import find_recipe
from neuronxa_callback.taps.fused_kernels import KernelMatch, match_module
from neuronxa_callback.taps.graph import Call
from neuronxa_callback.taps.hooks import RecomputedTap
from neuronxa_callback.taps.layers import FoundFFN, Pass, label_layers, stack_of
from neuronxa_callback.taps.module_experts import (
    expert_group,
    experts_of_group,
    refuse_unread_experts,
)
from neuronxa_callback.taps.modules import channel_dim, is_linear
from neuronxa_callback.taps.override import Override, chosen_by_user
from neuronxa_callback.taps.stacked_experts import Recipe, is_experts
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
        self._found: dict[str, FoundFFN] = {}

    def networks(self) -> list[FoundFFN]:
        """Every feed-forward network that ran; its passes are labelled by layer.

        Raises:
            TapError: If there is none, or one cannot be read.
        """
        for call in self.trace.calls:
            self._add(call)
        networks = label_layers(list(self._found.values()), self.model, self.stack)
        self._check_chosen()
        unread = [error for path, error in self.errors.items() if path not in self._found]
        if not networks:
            raise next(iter(self.errors.values()), None) or TapError(_none_found(self.model))
        if unread:
            raise unread[0]
        if self.chosen is None:
            refuse_unread_experts(self.trace, self._found)
        _, tokens = self.trace.shape or (0, 0)
        # If some networks of a stack run on exactly the tokens, longer inputs are not padding.
        unpadded = {stack_of(ffn.path) for ffn in networks if ffn.length == tokens}
        for ffn in networks:
            if ffn.rows or (ffn.length > tokens and stack_of(ffn.path) in unpadded):
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
            elif call.path not in self.kernels and not is_linear(call.module):
                kernel = match_module(call, self.trace.calls)
                if kernel is not None:
                    self.kernels[call.path] = kernel
        except TapError as error:
            self.errors[call.path] = error

    def _add(self, call: Call) -> None:
        if call.path in self.recipes:
            self._add_experts(call, self.recipes[call.path])
        elif call.path in self.kernels:
            self._add_kernel(call, self.kernels[call.path])
        elif is_linear(call.module) and call.source is not None:
            self._add_linear(call)

    def _add_experts(self, call: Call, recipe: Recipe) -> None:
        ffn = FoundFFN(
            call.path,
            "routed",
            recipe.experts * recipe.width,
            "computed from the input of the experts, for the rows that are routed",
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
            RecomputedTap(call.path, kernel.states),
        )
        self._count(self._found.setdefault(call.path, ffn), call, -1)

    def _add_linear(self, call: Call) -> None:
        if self.chosen is not None and call.path not in self.chosen:
            return
        if call.path not in self._found:
            ffn_input, kernel_gate = ffn_input_of(call, self.trace, self.chosen is not None)
            if ffn_input is None:
                return
            gate_path = (self.chosen or {}).get(call.path, "")
            tap = dense_tap(call, ffn_input, self.trace, gate_path, kernel_gate)
            if group := expert_group(call, ffn_input):
                around = group.around
                if around.path not in self._found:
                    self._found[around.path] = experts_of_group(self.model, ffn_input, tap, group)
                passes = self._found[around.path].passes
                if all(one.call != around.order for one in passes):
                    passes.append(Pass(call.block, around.order))
                return
            self._found[call.path] = dense_network(ffn_input, tap)
        self._count(self._found[call.path], call, channel_dim(call.module))

    def _count(self, ffn: FoundFFN, call: Call, channels: int) -> None:
        """Adds a pass if this call starts one; consecutive chunks of tokens form one pass."""
        assert call.input is not None
        batch, tokens = self.trace.shape or (1, 1)
        rows = call.input.numel() // call.input.shape[channels]
        ffn.length = rows // batch
        if ffn.length in self.trace.shifts:
            rows = batch * tokens
        number, ffn.calls = ffn.calls, ffn.calls + 1
        if ffn.rows == 0 and ffn.passes and rows != batch * tokens and ffn.single_call:
            # PEGASUS-X: the network also runs on global states, which are not tokens.
            ffn.ignored.append(number)
            return
        if ffn.rows == 0:
            ffn.passes.append(Pass(call.block, call.order))
        ffn.single_call = ffn.single_call and rows == batch * tokens
        ffn.rows += rows
        if ffn.rows == batch * tokens:
            ffn.rows = 0


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
