"""Which layer each pass of a feed-forward network belongs to, and what that layer is called."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from torch import nn

from neuronxa_callback.taps.hooks import Install

Label = int | str


@dataclass(frozen=True)
class Pass:
    """One time that a feed-forward network reads all tokens."""

    block: tuple[str, int]
    """The numbered block around it, and the how-manieth run of that block this is."""
    call: int
    """Its place among all calls."""
    key: tuple[int, int] = (0, 0)
    """Order of the layers, then of the calls."""
    label: Label = 0


@dataclass
class FoundFFN:
    """One feed-forward network, or one set of routed experts, with all its passes."""

    path: str
    kind: str
    width: int
    how: str
    place: Callable[[tuple[int, ...]], Install]
    """Given its parts in order, what puts the hooks on."""
    passes: list[Pass] = field(default_factory=list)
    experts: int = 0
    no_gate: str = ""
    """Why the gate cannot be read; empty where it can."""
    rows: int = 0
    """Tokens read in the running pass."""
    calls: int = 0
    length: int = 0
    """Positions in the latest call."""
    whole: bool = True
    """Whether each pass so far was one call with all tokens."""
    ignored: list[int] = field(default_factory=list)
    """Which calls are not for tokens."""


def labelled(found: list[FoundFFN], model: nn.Module, stack: str) -> list[FoundFFN]:
    """Those of the wanted stack, each pass with its layer's label.

    A layer is one run of one block. Its label is the block's number, as long as no two layers
    would have the same: then layers are numbered as they run.
    """
    two = _has_two_stacks(model) and {"encoder", "decoder"} <= {stack_of(f.path) for f in found}
    kept = [each for each in found if not two or stack in ("both", stack_of(each.path))]
    stacks = ("encoder", "decoder") if two and stack == "both" else ("",)
    offset = 0
    for name in stacks:
        members = [each for each in kept if not name or stack_of(each.path) == name]
        offset = _number(members, f"{name}." if name else "", offset)
    return kept


def _number(found: Iterable[FoundFFN], prefix: str, offset: int) -> int:
    members = list(found)
    passes = sorted((one for each in members for one in each.passes), key=lambda one: one.call)
    blocks = list(dict.fromkeys(one.block for one in passes))
    numbers = [int(path.rpartition(".")[2] or 0) if path else 0 for path, _ in blocks]
    names = dict(zip(blocks, numbers, strict=True))
    if len(set(numbers)) < len(numbers):
        names = {block: place for place, block in enumerate(blocks)}
    order = {block: place for place, block in enumerate(sorted(blocks, key=names.__getitem__))}
    for each in members:
        each.passes = [
            replace(
                one,
                key=(offset + order[one.block], one.call),
                label=f"{prefix}{names[one.block]}" if prefix else names[one.block],
            )
            for one in each.passes
        ]
    return offset + len(blocks)


def _has_two_stacks(model: nn.Module) -> bool:
    return any(
        bool(getattr(getattr(module, "config", None), "is_encoder_decoder", False))
        for module in model.modules()
    )


def stack_of(path: str) -> str:
    """``encoder`` or ``decoder``, whichever the path names first."""
    for part in path.split("."):
        for name in ("encoder", "decoder"):
            if part == name or part.endswith(f"_{name}"):
                return name
    return ""
