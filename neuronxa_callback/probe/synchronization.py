"""Ranks that agree: one error for all of them, and the same work on every one."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from neuronxa_callback.errors import (
    BrokenForwardError,
    ConfigError,
    ProbeError,
    ProbeMemoryError,
)
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.memory import free_memory, is_oom

OUT_OF_MEMORY = "out of memory: "
"""Marks the message of a rank that ran out of memory; such a message takes precedence."""


class OtherRankFailedError(Exception):
    """Leaves a section early; ``synchronize_errors`` raises the other rank's message instead."""


@contextmanager
def synchronize_errors(world: World, flag: Tensor) -> Iterator[None]:
    """Collective at its end: an error in the section on one rank is raised on all.

    Args:
        world: The ranks.
        flag: [1], on the device of ``world``'s exchanges. It is allocated in advance, because
            memory may have run out when it is needed.

    Raises:
        BrokenForwardError: At once and on this rank only: the others wait in a collective
            operation of the model and cannot be reached.
        ProbeMemoryError: If memory ran out on any rank.
        ProbeError: If another rank failed, with that rank's message.
    """
    failure: Exception | None = None
    message: str | None = None
    try:
        yield
    except BrokenForwardError:
        raise
    except OtherRankFailedError:
        pass
    except Exception as error:
        failure, message = error, f"{type(error).__name__}: {error}"
    if failure is not None and is_oom(failure):
        message = f"{OUT_OF_MEMORY}{message}"
        free_memory(flag.device, failure)
    first = world.first_error(message, flag, before=OUT_OF_MEMORY)
    if first is None:
        return
    if first.startswith(OUT_OF_MEMORY):
        raise ProbeMemoryError(first.removeprefix(OUT_OF_MEMORY)) from failure
    raise failure or ProbeError(f"a probe failed on another rank: {first}")


def check_same_on_ranks(world: World, device: torch.device, parts: Mapping[str, object]) -> None:
    """Collective: raise an error on all ranks if a part differs between any of them.

    Args:
        world: The ranks.
        device: The device of the model.
        parts: Name of a part -> its value, compared as text; the same names on every rank.

    Raises:
        ConfigError: Names the first part that differs, and how.
    """
    if not world.everyone:
        return
    texts = [repr(value).encode() for value in parts.values()]
    digests = [int.from_bytes(hashlib.sha256(text).digest()[:7], "big") for text in texts]
    rows = world.gather([*digests, *map(len, texts)], device)
    for part, (name, text) in enumerate(zip(parts, texts, strict=True)):
        rank = next((r for r, row in enumerate(rows) if row[part] != rows[0][part]), None)
        if rank is not None:
            lengths = [row[len(texts) + part] for row in rows]
            gathered = world.gather([*text.ljust(max(lengths))], device)
            own, others = (bytes(gathered[r][: lengths[r]]).decode() for r in (0, rank))
            first, other = _around_difference(own, others)
            raise ConfigError(
                f"all ranks must do the same, but {name} differs: {first} on rank 0, {other} on"
                f" rank {rank}; give every rank the same options, in the same order"
            )


def _around_difference(one: str, other: str) -> tuple[str, str]:
    """Two texts, or their parts around the first difference where they are long."""
    pairs = enumerate(zip(one, other, strict=False))
    at = next((k for k, (a, b) in pairs if a != b), min(len(one), len(other)))
    return _around(one, at), _around(other, at)


def _around(text: str, at: int) -> str:
    start, stop = max(0, at - 40), at + 60
    if len(text) <= 120:
        return text
    return f"{'…' * (start > 0)}{text[start:stop]}{'…' * (stop < len(text))}"
