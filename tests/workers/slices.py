"""What ``torchrun`` starts in test_slices.py: models that transformers spreads over ranks.

Usage: slices.py FOLDER SCENE [SCENE ...]
"""

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate import ParallelismConfig
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, TorchDynamoPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.distributed import DistributedConfig

from neuronxa_callback.probe.distributed import world_of
from tests.helpers.ranks import COUNTED, error_of, leave, measurement, noisy_llama, probe_of_seven


def experts():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 24}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    routing = {"num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 2}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=400, **sizes, **heads, **routing)).eval()


def saved(folder, name, make):
    if dist.get_rank() == 0:
        make().save_pretrained(folder / name)
    dist.barrier()
    return folder / name


def spread_over(folder, name, make, neurons=(), **options):
    """The report of a saved model that transformers spreads over ranks, or the error message."""
    path = saved(folder, name, make)
    try:
        config = DistributedConfig(**options)
        model = AutoModelForCausalLM.from_pretrained(path, distributed_config=config).eval()
        return measurement(probe_of_seven(neurons=neurons).run(model))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def dense(folder):
    return spread_over(folder, "dense", noisy_llama, tp_size=2, tp_plan="auto")


def neurons(folder):
    return spread_over(folder, "dense", noisy_llama, COUNTED, tp_size=2, tp_plan="auto")


def all_pairs(folder):
    """Slices of neurons whose languages are compared with each other."""
    path = saved(folder, "dense", noisy_llama)
    config = DistributedConfig(tp_size=2, tp_plan="auto")
    model = AutoModelForCausalLM.from_pretrained(path, distributed_config=config).eval()
    return measurement(probe_of_seven().run(model, pivot="all"))


def dense_and_shards(folder):
    return spread_over(folder, "dense", noisy_llama, tp_size=2, tp_plan="auto", fsdp_size=2)


def shards(folder):
    return spread_over(folder, "dense", noisy_llama, fsdp_size=2)


def tokens_too(folder):
    options = {"tp_size": 2, "tp_plan": "auto", "enable_sequence_parallel": True}
    return spread_over(folder, "dense", noisy_llama, **options)


def routed(folder):
    return spread_over(folder, "routed", experts, tp_size=2, tp_plan="auto")


def expert_parallel(folder):
    return spread_over(folder, "routed", experts, fsdp_size=2, ep_size=2)


def cut(model, mesh):
    """The model with slices of neurons, as PyTorch cuts them over a mesh of the script's own."""
    plan = {"gate_proj": ColwiseParallel(), "up_proj": ColwiseParallel()}
    plan["down_proj"] = RowwiseParallel()
    for layer in model.model.layers:
        parallelize_module(layer.mlp, mesh, plan)
    return model


def own_slices(folder):
    """Slices over a mesh with and without a name that the probe is not told of."""
    found = []
    for names in (("tp",), None):
        mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=names)
        found.append(measurement(probe_of_seven().run(cut(noisy_llama(), mesh))))
    return found


def accelerate_mesh(folder):
    """FSDP2 x tensor parallel over the mesh of accelerate's ParallelismConfig."""
    plan = ParallelismConfig(dp_shard_size=2, tp_size=2)
    mesh = plan.build_device_mesh("cpu")
    model = cut(noisy_llama(), mesh["tp"])
    for layer in (*model.model.layers, model):
        fully_shard(layer, mesh=mesh["dp_shard"])
    return measurement(probe_of_seven().run(model))


def own_experts(folder):
    """Experts that a script of one's own has spread over ranks."""
    model, mesh = experts(), init_device_mesh("cpu", (2,), mesh_dim_names=("ep",))
    for layer in model.model.layers:
        for name, weight in layer.mlp.experts.named_parameters():
            spread = nn.Parameter(distribute_tensor(weight.detach(), mesh, [Shard(0)]))
            setattr(layer.mlp.experts, name, spread)
    return error_of(lambda: probe_of_seven().run(model))


def pipeline(folder):
    return spread_over(folder, "dense", noisy_llama, pp_size=2)


def long_sentences(folder):
    """Accelerate spreads the tokens of a sentence over ranks: context and sequence parallel."""
    found, forwards, model = [], [], noisy_llama()
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    for size in ({"cp_size": 2}, {"sp_size": 2}):
        AcceleratorState._reset_state(reset_partial_state=True)
        # Accelerate accepts these sizes on accelerators only: pretend that the CPUs are one.
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        options = {"parallelism_config": ParallelismConfig(**size), "_from_accelerator": True}
        AcceleratorState(cpu=True, dynamo_plugin=TorchDynamoPlugin(), **options)
        found.append(error_of(lambda: probe_of_seven().run(model)))
    AcceleratorState._reset_state()
    return [*found, len(forwards)]


def dimensions(folder):
    """Name of a mesh's dimension -> the ranks that share the work, or the error message."""
    found = {}
    for name in ("pp", "ep", "cp", "sp", "dp", "tp"):
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=(name,))
        try:
            found[name] = world_of(noisy_llama(), mesh).size
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["ACCELERATE_ALLOW_CP_STANDALONE"] = "true"
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    results = {scene: globals()[scene](folder) for scene in sys.argv[2:]}
    (folder / f"{dist.get_rank()}-{dist.get_world_size()}.json").write_text(json.dumps(results))
    leave()
