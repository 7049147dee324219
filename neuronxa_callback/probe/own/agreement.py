"""A registered measure that fails on one rank, or differs there, has failed on all of them."""

import hashlib
from collections.abc import Mapping

from neuronxa_callback.metrics.own import Faults
from neuronxa_callback.probe.distributed import World

DIFFERS = "its results differ between ranks"


def agree(world: World, faults: Faults, found: Mapping[str, object]) -> None:
    """Collective: the same faults on every rank.

    Args:
        world: The ranks.
        faults: The faults of this rank; those of others are added.
        found: Owner -> what this rank has found, compared as text; the same owners on every rank.
            The faults get their order.
    """
    if world.agreement is not None and found:
        _share(world, faults, found)
    faults.sort(found)


def _share(world: World, faults: Faults, found: Mapping[str, object]) -> None:
    for owner in found:
        with world.section():
            message = world.first_error(faults.messages.get(owner))
        if message is not None:
            faults.messages[owner] = message
    texts = [repr(value).encode() for value in found.values()]
    rows = world.gather(
        [int.from_bytes(hashlib.sha256(text).digest()[:7], "big") for text in texts]
    )
    for k, owner in enumerate(found):
        if any(row[k] != rows[0][k] for row in rows):
            faults.messages.setdefault(owner, DIFFERS)
