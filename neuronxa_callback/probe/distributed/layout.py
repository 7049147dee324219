"""Which ranks share the work (data parallel), and which hold slices of the same neurons.

Read from a device mesh, or from the model.
"""

from dataclasses import replace
from typing import Any

import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.state import is_initialized as accelerate_is_initialized
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.distributed.world import World, all_ranks

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


def world_of(model: nn.Module, mesh: Any = None) -> World:
    """The ranks that measure ``model`` together.

    Args:
        model: The model; its own mesh, or that of its weights, is used if ``mesh`` is None.
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
    return all_ranks() if mesh is None else _from_mesh(mesh)


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
    return _mesh_of_weights(model)


def _mesh_of_weights(model: nn.Module) -> Any:
    """The mesh by which a script of its own has cut weights, other than by FSDP; None if none."""
    meshes = [p.device_mesh for p in model.parameters() if isinstance(p, DTensor)]
    for mesh in meshes:
        names = mesh.mesh_dim_names or ()
        if any(name in (*TENSOR_DIMS, *PARALLEL_DIMS) and mesh[name].size() > 1 for name in names):
            return mesh
    sharded = any(isinstance(module, FSDPModule) for module in model.modules())
    # FSDP's own mesh has no names by default.
    unnamed = (mesh for mesh in meshes if not mesh.mesh_dim_names and mesh.size() > 1)
    return None if sharded else next(unnamed, None)


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
    return all_ranks()


_groups: dict[tuple[tuple[int, ...], ...], Any] = {}
"""Process groups are expensive and never freed: those of earlier probes, by their ranks."""


def _tensor_parallel(tensor: Any, slices: int) -> World:
    """The world if ``slices`` ranks hold one model: rank k of every such group shares work."""
    own = dist.get_process_group_ranks(tensor)
    everyone, tensor = all_ranks(), tensor if slices > 1 else None
    if slices == dist.get_world_size():
        return replace(everyone, rank=0, size=1, data=None, tensor=tensor)
    groups = sorted({tuple(ranks) for ranks in everyone.gather(own)})
    columns = tuple(zip(*groups, strict=True))
    if columns not in _groups:
        everyone.confirm()
        created = [(ranks, dist.new_group(list(ranks))) for ranks in columns]
        _groups[columns] = next(group for ranks, group in created if dist.get_rank() in ranks)
    rank, size = groups.index(tuple(own)), len(groups)
    return replace(everyone, rank=rank, size=size, data=_groups[columns], tensor=tensor)
