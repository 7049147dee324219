"""Who the ranks are, and what they tell each other: exact sums, one error for all. Alone: no-ops.

Which ranks share the work (data parallel) and which hold slices of the same neurons (tensor
parallel) is read from a device mesh, or from the model.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.state import is_initialized as accelerate_has_begun
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from neuronxa_callback.errors import BrokenForwardError, ConfigError

log = logging.getLogger(__name__)

TENSOR_DIMS = ("tp", "tensor", "tensor_parallel")
SPREAD = {
    "pp_size": "all blocks of the model",
    "ep_size": "all experts",
    "cp_size": "whole sentences",
    "sp_size": "whole sentences",
}
"""What transformers and accelerate can spread over ranks, and a probe needs on each of them."""
SPREAD_DIMS = {
    **dict.fromkeys(("pp", "pipeline", "pipeline_parallel"), "all blocks of the model"),
    **dict.fromkeys(("ep", "expert", "expert_parallel"), "all experts"),
    **dict.fromkeys(("cp", "context", "context_parallel"), "whole sentences"),
    **dict.fromkeys(("sp", "sequence", "sequence_parallel"), "whole sentences"),
}
"""The same as dimensions of a mesh."""


@dataclass(frozen=True)
class World:
    """The ranks of one probe, seen from this one."""

    rank: int = 0
    """Position among the ranks that share the work."""
    size: int = 1
    """How many ranks share the work; ranks of one tensor-parallel group count once."""
    data: Any = None
    """Process group of the ranks that share the work; None: alone."""
    tensor: Any = None
    """Process group of the ranks that hold slices of the same neurons; None: no slices."""
    everyone: bool = False
    """Whether there are other processes at all, which must agree on errors."""

    def sum_over_data_ranks(self, tensor: Tensor) -> Tensor:
        """Collective: the sum over the ranks that share the work, in place.

        Exact wherever all ranks but one hold zero, which is how it is used.
        """
        return _summed(tensor, self.data if self.size > 1 else None)

    def sum_over_tensor_ranks(self, tensor: Tensor) -> Tensor:
        """Collective: the sum over slices of the neurons, in place."""
        return _summed(tensor, self.tensor)

    def all_ok(self, here: bool, flag: Tensor) -> bool:
        """Collective over all ranks: whether it is well on every one; ``flag`` is room for it."""
        if not self.everyone:
            return here
        flag.fill_(0 if here else 1)
        return bool(_together(dist.all_reduce, flag) == 0)

    def first_error(self, said: str | None, flag: Tensor, before: str = "") -> str | None:
        """Collective over all ranks: the words of the first rank that has something to say.

        Words that start with ``before`` go before all others; ``flag`` is room as for ``well``.
        """
        if self.all_ok(said is None, flag) or not self.everyone:
            return said
        heard: list[str | None] = [None] * dist.get_world_size()
        _together(dist.all_gather_object, heard, said)
        as_config_error = [words for words in heard if words is not None]
        return min(as_config_error, key=lambda words: not words.startswith(before), default=None)

    def device(self, of: torch.device) -> torch.device:
        """Where sums are kept: a model's device, unless its weights wait on the host for a GPU."""
        if of.type == "cpu" and self.everyone and dist.get_backend() == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return of

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return not self.everyone or dist.get_rank() == 0


def world_of(model: nn.Module, mesh: Any = None) -> World:
    """The ranks that measure ``model`` together.

    Args:
        model: The model, from whose own mesh tensor parallelism is read where ``mesh`` is None.
        mesh: A ``DeviceMesh`` with named dimensions; ``tp`` holds slices of neurons, all other
            dimensions share the work.

    Raises:
        ConfigError: If sentences, blocks or experts are spread over ranks (context, sequence,
            pipeline or expert parallel), or the mesh has no names.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    _refuse_what_is_spread(model)
    if mesh is None:
        mesh = _tensor_mesh(model)
    if mesh is None:
        everyone = dist.group.WORLD
        size = dist.get_world_size()
        return World(rank=dist.get_rank(), size=size, data=everyone, everyone=size > 1)
    return _from_mesh(mesh)


@contextmanager
def process_group() -> Iterator[tuple[int, str | None]]:
    """This process among those that ``torchrun`` started: its rank, and its device if it has one.

    Alone, or where ranks have met already, nothing is started.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield (dist.get_rank() if dist.is_initialized() else 0), None
        return
    device = None
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device is None else "nccl")
    try:
        yield dist.get_rank(), device
    finally:
        dist.destroy_process_group()


def sharded(model: nn.Module) -> bool:
    """Whether a forward of ``model`` is itself collective, so that all ranks must run as many."""
    for parameter in model.parameters():
        if isinstance(parameter, DTensor) or hasattr(parameter, "ds_id"):
            return True
    return any(type(module).__name__ == "FullyShardedDataParallel" for module in model.modules())


def unwrap_ddp(model: nn.Module) -> nn.Module:
    """The model that DistributedDataParallel wraps; any other as it is.

    The wrapper's own forward may send buffers to all ranks, and notes for the next training step
    that it has: a probe needs neither.
    """
    return model.module if isinstance(model, DistributedDataParallel) else model


@contextmanager
def reshard_on_exit(model: nn.Module) -> Iterator[None]:
    """Leaves weights in shards as they were found.

    FSDP2 keeps the outermost weights gathered after a forward, for the backward that follows. None
    follows a probe: an optimizer step would change the shards, and the next forward not see it.
    """
    try:
        yield
    finally:
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def broadcast_from_rank0(world: World, number: int, device: torch.device) -> int:
    """Collective: the number of the first rank, so that all ranks do the same."""
    if not world.everyone:
        return number
    first = torch.tensor([number], device=world.device(device))
    return int(_together(dist.broadcast, first, src=0))


def local(tensor: Tensor) -> Tensor:
    """This rank's own part of a distributed tensor; any other tensor as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _summed(tensor: Tensor, group: Any) -> Tensor:
    if group is not None:
        _together(dist.all_reduce, tensor, group=group)
    return tensor


_last: list[Any] = []
"""The latest exchange, kept until the next one."""


def _together(collective: Callable[..., Any], target: Any, *arguments: Any, **options: Any) -> Any:
    """A collective into ``target``. One that fails leaves ranks out of step: the job has to end.

    A thread of gloo's may be the last to hold an exchange that is over. If Python shuts down while
    that thread lets go of it, the process aborts; so the latest one is held here too.
    """
    try:
        gloo = dist.get_backend(options.get("group")) == "gloo"
        if gloo and collective is not dist.all_gather_object:
            work = collective(target, *arguments, async_op=True, **options)
            work.wait()
            _last[:] = [work]
        else:
            collective(target, *arguments, **options)
    except RuntimeError as error:
        raise BrokenForwardError(
            "an exchange between ranks failed in a probe (was one of them killed?), so the job"
            f" ends as it would in training: {type(error).__name__}: {error}"
        ) from error
    return target


def _refuse_what_is_spread(model: nn.Module) -> None:
    # A saved configuration may still name a plan: it holds where the model lies on a mesh.
    spread = [each for each in model.modules() if getattr(each, "_device_mesh", None) is not None]
    plans = [getattr(getattr(each, "config", None), "distributed_config", None) for each in spread]
    if accelerate_has_begun():
        plans.append(getattr(AcceleratorState(), "parallelism_config", None))
    for plan in plans:
        for name, what in SPREAD.items():
            size = getattr(plan, name, None)
            if isinstance(size, int) and size > 1:
                raise ConfigError(
                    f"a probe needs {what} on every rank, but {name}={size} spreads them over"
                    " ranks; score saved checkpoints with `neuronxa sweep` instead"
                )


def _tensor_mesh(model: nn.Module) -> Any:
    for module in model.modules():
        size = getattr(module, "_tp_size", None)
        mesh = getattr(module, "_device_mesh", None)
        if size is not None and size > 1 and mesh is not None:
            return mesh
    return None


def _from_mesh(mesh: Any) -> World:
    names = tuple(mesh.mesh_dim_names or ())
    if not names and mesh.ndim > 1:
        raise ConfigError(
            f"mesh must name its dimensions, got {mesh.ndim} without names;"
            " pass mesh_dim_names=('dp', 'tp')"
        )
    for name in names:
        if name in SPREAD_DIMS and mesh[name].size() > 1:
            raise ConfigError(
                f"a probe needs {SPREAD_DIMS[name]} on every rank, but mesh dimension {name!r}"
                " spreads them over ranks; score saved checkpoints with `neuronxa sweep` instead"
            )
    tensor_name = next((name for name in names if name in TENSOR_DIMS), None)
    if not names and mesh.size() > 1:
        tensor_name = None if mesh.ndim != 1 else ""
    if tensor_name is None:
        return _data_only(mesh, names)
    tensor = (mesh if tensor_name == "" else mesh[tensor_name]).get_group()
    slices = dist.get_world_size(tensor)
    return _beside(tensor, slices)


def _data_only(mesh: Any, names: tuple[str, ...]) -> World:
    everyone = dist.get_world_size() > 1
    if mesh.size() != dist.get_world_size():
        raise ConfigError(
            f"mesh must hold all {dist.get_world_size()} ranks, got {mesh.size()} ({names})"
        )
    return World(dist.get_rank(), mesh.size(), dist.group.WORLD, None, everyone)


_groups: dict[tuple[tuple[int, ...], ...], Any] = {}


def _beside(tensor: Any, slices: int) -> World:
    """The world where ``slices`` ranks hold one model: equal places of all groups share work."""
    total = dist.get_world_size()
    if slices == total:
        return World(0, 1, None, tensor if slices > 1 else None, total > 1)
    mine = dist.get_process_group_ranks(tensor)
    heard: list[list[int] | None] = [None] * total
    dist.all_gather_object(heard, mine)
    groups = sorted({tuple(ranks) for ranks in heard if ranks is not None})
    columns = tuple(zip(*groups, strict=True))
    if columns not in _groups:
        made = [(ranks, dist.new_group(list(ranks))) for ranks in columns]
        _groups[columns] = next(group for ranks, group in made if dist.get_rank() in ranks)
    return World(
        rank=groups.index(tuple(mine)),
        size=len(groups),
        data=_groups[columns],
        tensor=tensor if slices > 1 else None,
        everyone=True,
    )
