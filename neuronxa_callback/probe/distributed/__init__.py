"""The ranks of a probe: who they are, and their exchanges. No-ops in a single process."""

from neuronxa_callback.probe.distributed.layout import world_of
from neuronxa_callback.probe.distributed.models import is_sharded, reshard_on_exit, unwrap_ddp
from neuronxa_callback.probe.distributed.world import (
    OtherRankFailedError,
    World,
    all_ranks,
    process_group,
)

__all__ = [
    "OtherRankFailedError",
    "World",
    "all_ranks",
    "is_sharded",
    "process_group",
    "reshard_on_exit",
    "unwrap_ddp",
    "world_of",
]
