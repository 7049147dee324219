"""What ``torchrun`` starts in test_faults.py: faults in probes of models in several kinds of parts.

Usage: faults.py FOLDER KIND [KIND ...]
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from neuronxa_callback import Probe, ProbeConfig
from tests.helpers.faults import faults
from tests.helpers.ranks import LANGUAGES, METRICS, leave, noisy_llama, texts_of
from tests.helpers.tiny import parallel, tokenizer_of


def whole(folder):
    return noisy_llama(), None


def shards(folder):
    from torch.distributed.fsdp import fully_shard

    model = noisy_llama()
    for layer in model.model.layers:
        fully_shard(layer)
    return fully_shard(model), None


def slices(folder):
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    model = noisy_llama()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),), mesh_dim_names=("tp",))
    plan = {"gate_proj": ColwiseParallel(), "up_proj": ColwiseParallel()}
    plan["down_proj"] = RowwiseParallel()
    for layer in model.model.layers:
        parallelize_module(layer.mlp, mesh, plan)
    return model, mesh


def auto(folder):
    from transformers import AutoModelForCausalLM
    from transformers.distributed import DistributedConfig

    if dist.get_rank() == 0:
        noisy_llama().save_pretrained(folder / "model")
    dist.barrier()
    config = DistributedConfig(tp_size=2, tp_plan="auto")
    model = AutoModelForCausalLM.from_pretrained(folder / "model", distributed_config=config)
    return model.eval(), None


def zero(folder):
    """ZeRO-3 shards parameters of any size here: those of a tiny model are below its threshold."""
    import deepspeed

    stage = {"stage": 3, "stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0}
    settings = {"zero_force_ds_cpu_optimizer": False, "zero_allow_untested_optimizer": True}
    settings |= {"train_micro_batch_size_per_gpu": 2, "zero_optimization": stage}
    model = noisy_llama()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    return model, None


def main(folder, kinds):
    corpus, found = parallel(12, LANGUAGES[:2]), {}
    tokenizer = tokenizer_of(texts_of(corpus))
    config = ProbeConfig(corpus=corpus, n_pairs=12, metrics=METRICS, batch_tokens=64)
    for kind in kinds:
        model, mesh = globals()[kind](folder)
        found[kind] = faults(lambda mesh=mesh: Probe(config, tokenizer, mesh), model)
    name = f"{'-'.join(kinds)}.{dist.get_rank()}.json"
    (folder / name).write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "zero" in sys.argv:
        import deepspeed

        deepspeed.init_distributed("gloo")
    else:
        dist.init_process_group("gloo")
    main(Path(sys.argv[1]), sys.argv[2:])
