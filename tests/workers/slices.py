"""What ``torchrun`` starts in test_slices.py: models that transformers spreads over ranks itself.

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
from torch.distributed.device_mesh import init_device_mesh
from transformers import AutoModelForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.distributed import DistributedConfig

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.probe.distributed import world_of
from tests.helpers.tiny import tokenizer_of
from tests.workers.ranks import corpus_of_seven, leave, plain, spread, texts_of

METRICS = ("nasca", "navca", "mexa")


def probe_of(metrics=METRICS):
    corpus = corpus_of_seven()
    config = ProbeConfig(corpus=corpus, metrics=metrics, batch_tokens=512)
    return Probe(config, tokenizer_of(texts_of(corpus)))


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


def spread_over(folder, name, make, metrics=METRICS, **options):
    """The report of a saved model, spread over ranks as asked, or the words of its refusal."""
    path = saved(folder, name, make)
    try:
        config = DistributedConfig(**options)
        model = AutoModelForCausalLM.from_pretrained(path, distributed_config=config).eval()
        return plain(probe_of(metrics).run(model))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def dense(folder):
    return spread_over(folder, "dense", spread, tp_size=2, tp_plan="auto")


def dense_and_shards(folder):
    return spread_over(folder, "dense", spread, tp_size=2, tp_plan="auto", fsdp_size=2)


def shards(folder):
    return spread_over(folder, "dense", spread, fsdp_size=2)


def tokens_too(folder):
    options = {"tp_size": 2, "tp_plan": "auto", "enable_sequence_parallel": True}
    return spread_over(folder, "dense", spread, **options)


def routed(folder):
    return spread_over(folder, "routed", experts, tp_size=2, tp_plan="auto")


def expert_parallel(folder):
    return spread_over(folder, "routed", experts, fsdp_size=2, ep_size=2)


def pipeline(folder):
    return spread_over(folder, "dense", spread, pp_size=2)


def long_sentences(folder):
    """Accelerate spreads the tokens of a sentence over ranks: context and sequence parallel."""
    found = []
    for size in ({"cp_size": 2}, {"sp_size": 2}):
        AcceleratorState._reset_state(reset_partial_state=True)
        # Accelerate takes these sizes on accelerators only: call the CPUs one.
        PartialState(cpu=True)
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        options = {"parallelism_config": ParallelismConfig(**size), "_from_accelerator": True}
        AcceleratorState(cpu=True, dynamo_plugin=TorchDynamoPlugin(), **options)
        try:
            probe_of().run(spread())
            found.append("no error")
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
    AcceleratorState._reset_state()
    return found


def dimensions(folder):
    """What a mesh of an own loop says of itself: its words, or the ranks that share the work."""
    found = {}
    for name in ("pp", "ep", "cp", "sp", "dp", "tp"):
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=(name,))
        try:
            found[name] = world_of(spread(), mesh).size
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    os.environ["ACCELERATE_ALLOW_CP_STANDALONE"] = "true"
    dist.init_process_group("gloo")
    home = Path(sys.argv[1])
    seen = {scene: globals()[scene](home) for scene in sys.argv[2:]}
    (home / f"{dist.get_rank()}-{dist.get_world_size()}.json").write_text(json.dumps(seen))
    leave()
