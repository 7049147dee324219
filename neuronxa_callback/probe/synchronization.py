"""One error for all ranks: a section that fails on one rank fails on every rank."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from neuronxa_callback.errors import BrokenForwardError, ProbeError, ProbeMemoryError
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
