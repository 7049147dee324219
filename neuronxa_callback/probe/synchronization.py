"""Ranks that agree: one error for all of them, and the same work on every one."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar

from neuronxa_callback.errors import (
    BrokenForwardError,
    ConfigError,
    ProbeError,
    ProbeMemoryError,
)
from neuronxa_callback.probe.distributed import OtherRankFailedError, World, all_ranks
from neuronxa_callback.probe.memory import free_memory, is_oom

P = ParamSpec("P")
R = TypeVar("R")

OUT_OF_MEMORY = "out of memory: "
"""Marks the message of a rank that ran out of memory; such a message takes precedence."""


@dataclass
class Outcome:
    """How a section ended."""

    error: str | None = None
    """Type and message of the first error of any rank, equal on all ranks."""


@contextmanager
def synchronize_errors(world: World) -> Iterator[Outcome]:
    """Collective at its end: an error in the section on one rank is raised on all.

    Ranks that go on learn of it at their next exchange (see ``World``). Sections may be nested.

    Args:
        world: The ranks.

    Raises:
        BrokenForwardError: At once and on this rank only: the others wait in a collective
            operation of the model and cannot be reached.
        ProbeMemoryError: If memory ran out on any rank.
        ProbeError: If another rank failed, with that rank's message.
    """
    failure: Exception | None = None
    message: str | None = None
    outcome = Outcome()
    with world.section():
        try:
            yield outcome
        except BrokenForwardError:
            raise
        except OtherRankFailedError:
            pass
        except Exception as error:
            failure, message = error, f"{type(error).__name__}: {error}"
        if failure is not None and is_oom(failure):
            message = f"{OUT_OF_MEMORY}{message}"
            free_memory(failure)
        first = world.first_error(message, before=OUT_OF_MEMORY)
    if first is None:
        return
    outcome.error = first.removeprefix(OUT_OF_MEMORY)
    if first.startswith(OUT_OF_MEMORY):
        raise ProbeMemoryError(outcome.error) from failure
    raise failure or ProbeError(f"a probe failed on another rank: {first}")


def synchronized(function: Callable[P, R]) -> Callable[P, R]:
    """The function as one section of ``synchronize_errors``, over all processes."""

    @wraps(function)
    def in_section(*args: P.args, **kwargs: P.kwargs) -> R:
        with synchronize_errors(all_ranks()):
            return function(*args, **kwargs)

    return in_section


def check_same_on_ranks(world: World, parts: Mapping[str, object]) -> None:
    """Collective: raise an error on all ranks if a part differs between any of them.

    Args:
        world: The ranks.
        parts: Name of a part -> its value, compared as text; the same names on every rank.

    Raises:
        ConfigError: Names the first part that differs, and how.
    """
    if world.agreement is None:
        return
    texts = [repr(value).encode() for value in parts.values()]
    digests = [int.from_bytes(hashlib.sha256(text).digest()[:7], "big") for text in texts]
    rows = world.gather([*digests, *map(len, texts)])
    for part, (name, text) in enumerate(zip(parts, texts, strict=True)):
        rank = next((r for r, row in enumerate(rows) if row[part] != rows[0][part]), None)
        if rank is not None:
            lengths = [row[len(texts) + part] for row in rows]
            gathered = world.gather([*text.ljust(max(lengths))])
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
