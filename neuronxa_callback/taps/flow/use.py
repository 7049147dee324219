"""Tells feed-forward networks from other small networks by what happens to their output.

The output of a feed-forward network returns to the width of its input and is added to the stream.
The output of a gate or a router goes through an activation function or a ranking; a bottleneck
behind another layer (an adapter) reads that layer's output instead of the stream.
"""

from collections.abc import Sequence

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.flow.operations import (
    ACTIVATIONS,
    COMPARISONS,
    CONTRACTIONS,
    DIVISIONS,
    MASKS,
    NORMS,
    RANKINGS,
    STRUCTURE,
    SUMS,
    TIMES,
    WEAK_ACTIVATIONS,
    WRITES,
)
from neuronxa_callback.taps.flow.structure import FFNInput
from neuronxa_callback.taps.flow.walk import (
    BackwardWalk,
    NotPointwise,
    is_projection,
    is_token_scalar,
)
from neuronxa_callback.taps.graph import Call, Node, operation_names
from neuronxa_callback.taps.modules import channel_dim, is_list_entry
from neuronxa_callback.taps.trace import Trace

_DECISIONS = (
    ACTIVATIONS
    | RANKINGS
    | COMPARISONS
    | operation_names("tanh tanh_ exp exp_ softmax log_softmax _softmax logsumexp cross_entropy")
)
_CHOICES = RANKINGS | COMPARISONS | MASKS | WRITES | operation_names("one_hot relu threshold clamp")
_MIXING = (
    CONTRACTIONS
    | STRUCTURE
    | operation_names(
        "softmax _softmax scaled_dot_product_attention conv1d conv2d conv3d cumsum cumprod "
        "embedding cos sin fft2 fft ifft rfft irfft fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 "
        "sum mean segment_reduce index_add index_add_ scatter_add scatter_add_ logsumexp "
        "_assert_async multi_head_attention_forward avg_pool1d max_pool1d "
        "avg_pool2d max_pool2d fft_fftn fft_ifftn new_zeros zeros lstm gru rnn_tanh "
        "wait_tensor all_reduce all_gather_tensor reduce_scatter_tensor"
    )
)


class Use:
    """How the outputs of the layers of one trace are used."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.users = _users(trace.recorded)

    def is_network(self, call: Call, ffn_input: FFNInput) -> bool:
        """Whether this layer is the down projection of a feed-forward network of a block.

        Raises:
            TapError: If that cannot be known.
        """
        block = call.block[0]
        inside = all(
            source.block == call.block or source.within.startswith(f"{block}.")
            for source in ffn_input.sources
        )
        if not is_list_entry(block) or call.path == block or not inside:
            return False
        read = input_of(ffn_input)
        if read is None or not self._returns(call, ffn_input):
            return False
        width = ffn_input.product.value.shape[channel_dim(call.module)]
        if _before_norm(read).op == "linear" and width < read.value.shape[-1]:
            return False
        role = self.role(call)
        if role == "unclear":
            raise TapError(
                f"the output of {call.path} is multiplied with other states, so that it may be a "
                "feed-forward network or a gate; pass the down projections as neuron_modules="
            )
        return role == "network"

    def _returns(self, call: Call, ffn_input: FFNInput) -> bool:
        """Whether the layer, or linear layers behind it, return to the width of the input."""
        source = ffn_input.sources[0]
        read = source.inputs[0] if source.op == "linear" else data_of(source)
        dim = channel_dim(call.module)
        wanted = read.value.shape[dim]
        waiting = [call.result] if call.result is not None else []
        for _ in range(8):
            if any(node.value.ndim and node.value.shape[dim] == wanted for node in waiting):
                return True
            waiting = [
                user
                for node in waiting
                for user in self.users.get(id(node), [])
                if user.op == "linear" or user.keeps_values
            ]
        return False

    def role(self, call: Call) -> str:
        """``network``, ``gate`` or ``unclear``."""
        answers = self._answers(call)
        for answer in ("network", "unclear", "gate"):
            if answer in answers:
                return answer
        return "network"

    def _answers(self, call: Call) -> set[str]:
        answers: set[str] = set()
        for node, user in self._onward(call):
            answer = self._answer(node, user)
            if answer:
                answers.add(answer)
        return answers

    def _onward(self, call: Call) -> list[tuple[Node, Node]]:
        """Pairs of a tensor that carries the output, and a tensor that is computed from it."""
        waiting = [call.result] if call.result is not None else []
        seen: set[int] = set()
        pairs: list[tuple[Node, Node]] = []
        while waiting:
            node = waiting.pop()
            for user in self.users.get(id(node), []):
                pairs.append((node, user))
                if id(user) not in seen and not self._answer(node, user):
                    seen.add(id(user))
                    waiting.append(user)
        return pairs

    def _answer(self, node: Node, user: Node) -> str:
        """The role that this use shows; empty if the tensor is only passed on."""
        others = [part for part in user.inputs if part is not node]
        if user.name in _DECISIONS:
            return "gate"
        if user.name in SUMS:
            return "network" if any(not part.constant for part in others) else ""
        if user.name in TIMES:
            wide = [part for part in others if not part.constant and not is_token_scalar(part)]
            if not wide or is_token_scalar(user):
                return ""
            return "" if all(_is_activated(part) for part in wide) else "unclear"
        if user.keeps_values or user.op in ("norm", "linear", "module"):
            return ""
        passed_on = STRUCTURE | DIVISIONS | NORMS | MASKS | CONTRACTIONS
        return "" if user.name in passed_on else "network"

    def chosen_by_weight(self, call: Call) -> bool:
        """Whether the output is multiplied by a number per token that may be 0 (masked experts)."""
        for node, user in self._onward(call):
            if user.name not in TIMES | CONTRACTIONS or user.op == "linear":
                continue
            for part in user.inputs:
                small = part.value.ndim and part.value.shape[-1] <= node.value.shape[-1]
                if part is not node and not part.constant and small and _is_choice(part):
                    return True
        return False

    def refuse_unclear(self, call: Call, node: Node) -> None:
        """Refuses a layer that may be the down projection of an unusual network."""
        if not is_list_entry(call.block[0]) or call.path == call.block[0]:
            return
        if node.name in _MIXING or node.unknown:
            return
        raise TapError(
            f"{call.path} may be the down projection of a feed-forward network, but the operation "
            f"{node.name!r} in front of it cannot be followed; pass the down projections as "
            "neuron_modules="
        )


def input_of(ffn_input: FFNInput) -> Node | None:
    """The one tensor that all layers in front of a down projection read."""
    read = [data_of(source).root() for source in ffn_input.sources]
    # Each layer may have a norm of its own; in Zamba 2, a low-rank path next to a projection
    # starts at the projection's input.
    for common in (Node.root, _before_norm, _before_linears):
        starts = [common(node) for node in read]
        if all(node is starts[0] for node in starts):
            return starts[0]
    return None


def data_of(source: Node) -> Node:
    """The states that a linear layer reads."""
    if source.op == "linear":
        return source.inputs[0]
    return next(part for part in source.inputs if not part.constant)


def _before_linears(node: Node) -> Node:
    while node.op == "linear":
        node = node.inputs[0].root()
    return node


def _before_norm(node: Node) -> Node:
    while node.op == "norm" or node.keeps_values:
        node = node.inputs[0]
    return node


def _is_activated(node: Node) -> bool:
    """Whether the tensor is the output of an activation function (a gate)."""
    root = node.root()
    if root.name in ACTIVATIONS | WEAK_ACTIVATIONS or root.op == "module":
        return True
    try:
        walk = BackwardWalk()
        return bool(walk.sources(root)) and walk.has_activation(root)
    except NotPointwise:
        return False


def _is_choice(node: Node) -> bool:
    """Whether some of the values are 0 because the states were ranked or compared."""
    waiting, seen = [node], set[int]()
    zeroing = from_states = False
    while waiting:
        current = waiting.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        zeroing = zeroing or current.name in _CHOICES
        if is_projection(current):
            from_states = True
            continue
        waiting += current.inputs
    return zeroing and from_states


def _users(nodes: Sequence[Node]) -> dict[int, list[Node]]:
    """Identity of a node -> the nodes that are computed from it."""
    found: dict[int, list[Node]] = {}
    for node in nodes:
        for part in node.inputs:
            found.setdefault(id(part), []).append(node)
    return found
