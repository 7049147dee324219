"""Assigns each pass of a feed-forward network to a layer, and labels the layers."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from torch import nn

from neuronxa_callback.taps.hooks import DenseTap
from neuronxa_callback.taps.reader import Tap

Label = int | str


@dataclass(frozen=True)
class Pass:
    """One pass of all tokens through a feed-forward network."""

    block: tuple[str, int]
    """Path of the numbered block around it, and the index of this run of the block."""
    call: int
    """Its position among all calls."""
    key: tuple[int, int] = (0, 0)
    """Sort key: position of the layer, then of the call."""
    label: Label = 0


@dataclass
class FoundFFN:
    """A feed-forward network or a set of routed experts, with its tap and all its passes."""

    path: str
    kind: str
    width: int
    how: str
    tap: Tap
    """Reads it; without parts as long as these are unknown."""
    passes: list[Pass] = field(default_factory=list)
    experts: int = 0
    has_gate: bool = True
    """Whether the gate can be read."""
    rows: int = 0
    """Tokens read so far in the running pass."""
    calls: int = 0
    length: int = 0
    """Positions per sentence in the latest call."""
    single_call: bool = True
    """Whether each pass so far was one call with all tokens."""
    ignored: list[int] = field(default_factory=list)
    """Indices of the calls that are not for tokens."""

    def tap_for(self, parts: tuple[int, ...]) -> Tap:
        """The tap that reads these parts of a plan, one per pass."""
        if isinstance(self.tap, DenseTap):
            return replace(self.tap, parts=parts, ignored=tuple(self.ignored))
        return replace(self.tap, parts=parts)


def label_layers(networks: list[FoundFFN], model: nn.Module, stack: str) -> list[FoundFFN]:
    """The networks of the requested stack; each pass gets the label of its layer.

    A layer is one run of one block. Its label is the number of the block; if that would give two
    layers the same label, layers are numbered in the order in which they run.
    """
    both = _has_two_stacks(model) and {"encoder", "decoder"} <= {stack_of(f.path) for f in networks}
    kept = [f for f in networks if not both or stack in ("both", stack_of(f.path))]
    offset = 0
    for name in ("encoder", "decoder") if both and stack == "both" else ("",):
        members = [f for f in kept if not name or stack_of(f.path) == name]
        offset = _label(members, f"{name}." if name else "", offset)
    return kept


def _label(networks: Iterable[FoundFFN], prefix: str, offset: int) -> int:
    networks = list(networks)
    passes = sorted((one for f in networks for one in f.passes), key=lambda one: one.call)
    blocks = list(dict.fromkeys(one.block for one in passes))
    numbers = [int(path.rpartition(".")[2] or 0) if path else 0 for path, _ in blocks]
    labels = dict(zip(blocks, numbers, strict=True))
    if len(set(numbers)) < len(numbers):
        labels = {block: position for position, block in enumerate(blocks)}
    positions = {block: n for n, block in enumerate(sorted(blocks, key=labels.__getitem__))}
    for ffn in networks:
        ffn.passes = [
            replace(
                one,
                key=(offset + positions[one.block], one.call),
                label=f"{prefix}{labels[one.block]}" if prefix else labels[one.block],
            )
            for one in ffn.passes
        ]
    return offset + len(blocks)


def _has_two_stacks(model: nn.Module) -> bool:
    return any(
        bool(getattr(getattr(module, "config", None), "is_encoder_decoder", False))
        for module in model.modules()
    )


def stack_of(path: str) -> str:
    """``encoder`` or ``decoder``, the first that the path contains; empty if neither."""
    for part in path.split("."):
        for name in ("encoder", "decoder"):
            if part == name or part.endswith(f"_{name}"):
                return name
    return ""
