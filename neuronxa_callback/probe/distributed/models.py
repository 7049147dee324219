"""Models that are wrapped or spread over ranks: DDP, FSDP, slices, DeepSpeed."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel


def is_sharded(model: nn.Module) -> bool:
    """Whether a forward of ``model`` is collective, so that all ranks must run equally many."""
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) or hasattr(parameter, "ds_id"):
            return True
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """The model inside DistributedDataParallel; any other model as it is.

    The wrapper's own forward may broadcast buffers and changes its state for the next training
    step; a probe needs neither.
    """
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def reshard_on_exit(model: nn.Module) -> Iterator[None]:
    """Shards the weights again after the probe's forwards.

    FSDP2 keeps the outermost weights gathered after a forward, for the backward that follows. No
    backward follows a probe: an optimizer step would change the shards only, and the next forward
    would use the old weights.
    """
    try:
        yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
