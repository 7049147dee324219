"""The ranks of a probe and their exchanges: exact sums, error messages. No-ops on a single rank.

Which ranks share the work (data parallel) and which hold slices of the same neurons (tensor
parallel) is read from a device mesh, or from the model.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.state import is_initialized as accelerate_is_initialized
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from neuronxa_callback.errors import BrokenForwardError, ConfigError

TENSOR_DIMS = ("tp", "tensor", "tensor_parallel")
PARALLEL_SIZES = {
    "pp_size": "all blocks of the model",
    "ep_size": "all experts",
    "cp_size": "whole sentences",
    "sp_size": "whole sentences",
}
"""Option of transformers or accelerate -> what a probe needs on every rank and it spreads."""
PARALLEL_DIMS = {
    dim: PARALLEL_SIZES[f"{short}_size"]
    for short, name in (("pp", "pipeline"), ("ep", "expert"), ("cp", "context"), ("sp", "sequence"))
    for dim in (short, name, f"{name}_parallel")
}
"""Dimension of a mesh -> the same."""


@dataclass(frozen=True)
class World:
    """The ranks of one probe, seen from this one."""

    rank: int = 0
    """Index among the ranks that share the work."""
    size: int = 1
    """Number of ranks that share the work; a tensor-parallel group counts as one."""
    data: Any = None
    """Process group of the ranks that share the work; None for a single rank."""
    tensor: Any = None
    """Process group of the ranks that hold slices of the same neurons; None without slices."""
    everyone: bool = False
    """Whether other processes exist, with which errors must be synchronized."""

    def sum_over_data_ranks(self, tensor: Tensor) -> Tensor:
        """Collective: the sum over the ranks that share the work, in place.

        Exact if at most one rank has a value other than zero in each place, as is the case here.
        """
        return _sum(tensor, self.data if self.size > 1 else None)

    def sum_over_tensor_ranks(self, tensor: Tensor) -> Tensor:
        """Collective: the sum over slices of the neurons, in place."""
        return _sum(tensor, self.tensor)

    def all_ok(self, ok: bool, flag: Tensor) -> bool:
        """Collective over all ranks: whether ``ok`` is true on every rank.

        Args:
            ok: The state of this rank.
            flag: [1], overwritten; allocated in advance, since memory may have run out.
        """
        if not self.everyone:
            return ok
        flag.fill_(0 if ok else 1)
        return bool(_run_collective(dist.all_reduce, flag) == 0)

    def first_error(self, message: str | None, flag: Tensor, before: str = "") -> str | None:
        """Collective over all ranks: the message of the first rank that has one.

        Args:
            message: The error of this rank; None if it has none.
            flag: As for ``all_ok``.
            before: Messages that start with this take precedence.
        """
        if self.all_ok(message is None, flag) or not self.everyone:
            return message
        gathered: list[str | None] = [None] * dist.get_world_size()
        _run_collective(dist.all_gather_object, gathered, message)
        messages = [text for text in gathered if text is not None]
        return min(messages, key=lambda text: not text.startswith(before), default=None)

    def gather(self, numbers: Sequence[int], device: torch.device) -> list[list[int]]:
        """Collective over all ranks: the integers of every rank, equally many on each."""
        own = torch.tensor(numbers, dtype=torch.long, device=self.device(device))
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        _run_collective(dist.all_gather, rows, own)
        return [row.tolist() for row in rows]

    def device(self, model_device: torch.device) -> torch.device:
        """Where sums are kept: the model's device, or this rank's GPU if NCCL needs one."""
        if model_device.type == "cpu" and self.everyone and dist.get_backend() == "nccl":
            return torch.device("cuda", torch.cuda.current_device())
        return model_device


def world_of(model: nn.Module, mesh: Any = None) -> World:
    """The ranks that measure ``model`` together.

    Args:
        model: The model; its own mesh is used if ``mesh`` is None.
        mesh: A ``DeviceMesh`` with named dimensions: ``tp`` holds slices of the neurons, all other
            dimensions share the work.

    Raises:
        ConfigError: If sentences, blocks or experts are spread over ranks (context, sequence,
            pipeline or expert parallel), or the mesh has no names.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    _check_parallelism(model)
    if mesh is None:
        mesh = _tensor_mesh(model)
    if mesh is None:
        everyone = dist.group.WORLD
        size = dist.get_world_size()
        return World(rank=dist.get_rank(), size=size, data=everyone, everyone=size > 1)
    return _from_mesh(mesh)


@contextmanager
def process_group() -> Iterator[tuple[int, str | None]]:
    """The process group of ``torchrun``: yields this rank, and its device (None without a GPU).

    Does nothing in a single process, or if a process group already exists.
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


def broadcast_from_rank0(world: World, number: int, device: torch.device) -> int:
    """Collective: the number of the first rank."""
    return world.gather([number], device)[0][0] if world.everyone else number


def _sum(tensor: Tensor, group: Any) -> Tensor:
    if group is not None:
        _run_collective(dist.all_reduce, tensor, group=group)
    return tensor


_latest: list[Any] = []


def _run_collective(
    collective: Callable[..., Any], target: Any, *arguments: Any, **options: Any
) -> Any:
    """Runs a collective that writes into ``target``.

    If it fails, the job must end. The latest exchange is kept: if one of gloo's threads were its
    last owner while Python shuts down, the process would abort.
    """
    try:
        gloo = dist.get_backend(options.get("group")) == "gloo"
        if gloo and collective is not dist.all_gather_object:
            work = collective(target, *arguments, async_op=True, **options)
            work.wait()
            _latest[:] = [work]
        else:
            collective(target, *arguments, **options)
    except RuntimeError as error:
        raise BrokenForwardError(
            "an exchange between ranks failed in a probe (was one of them killed?), so the job"
            f" ends as it would in training: {type(error).__name__}: {error}"
        ) from error
    return target


def _check_parallelism(model: nn.Module) -> None:
    # A saved configuration may still name a plan: it counts only if the model is on a mesh.
    on_mesh = [m for m in model.modules() if getattr(m, "_device_mesh", None) is not None]
    plans = [getattr(getattr(m, "config", None), "distributed_config", None) for m in on_mesh]
    if accelerate_is_initialized():
        plans.append(getattr(AcceleratorState(), "parallelism_config", None))
    for plan in plans:
        for name, needed in PARALLEL_SIZES.items():
            size = getattr(plan, name, None)
            if isinstance(size, int) and size > 1:
                raise _spread_error(needed, f"{name}={size}")


def _spread_error(needed: str, cause: str) -> ConfigError:
    return ConfigError(
        f"a probe needs {needed} on every rank, but {cause} spreads them over ranks;"
        " score saved checkpoints with `neuronxa sweep` instead"
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
        if name in PARALLEL_DIMS and mesh[name].size() > 1:
            raise _spread_error(PARALLEL_DIMS[name], f"mesh dimension {name!r}")
    tensor_name = next((name for name in names if name in TENSOR_DIMS), None)
    if not names and mesh.size() > 1:
        tensor_name = ""
    if tensor_name is None:
        return _data_parallel(mesh, names)
    tensor = (mesh if tensor_name == "" else mesh[tensor_name]).get_group()
    return _tensor_parallel(tensor, dist.get_world_size(tensor))


def _data_parallel(mesh: Any, names: tuple[str, ...]) -> World:
    total = dist.get_world_size()
    if mesh.size() != total:
        raise ConfigError(f"mesh must hold all {total} ranks, got {mesh.size()} ({names})")
    return World(dist.get_rank(), total, dist.group.WORLD, None, everyone=total > 1)


_groups: dict[tuple[tuple[int, ...], ...], Any] = {}
"""Process groups are expensive and never freed: those of earlier probes, by their ranks."""


def _tensor_parallel(tensor: Any, slices: int) -> World:
    """The world if ``slices`` ranks hold one model: rank k of every such group shares work."""
    total = dist.get_world_size()
    if slices == total:
        return World(0, 1, None, tensor if slices > 1 else None, total > 1)
    own = dist.get_process_group_ranks(tensor)
    gathered: list[list[int] | None] = [None] * total
    dist.all_gather_object(gathered, own)
    groups = sorted({tuple(ranks) for ranks in gathered if ranks is not None})
    columns = tuple(zip(*groups, strict=True))
    if columns not in _groups:
        created = [(ranks, dist.new_group(list(ranks))) for ranks in columns]
        _groups[columns] = next(group for ranks, group in created if dist.get_rank() in ranks)
    return World(
        rank=groups.index(tuple(own)),
        size=len(groups),
        data=_groups[columns],
        tensor=tensor if slices > 1 else None,
        everyone=True,
    )
