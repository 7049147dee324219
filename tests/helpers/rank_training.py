"""A real Trainer on each of several ranks, and what its training ends with."""

import hashlib
import os

import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer

from neuronxa_callback.taps.modules import local_shard
from tests.helpers.ranks import BUILTIN, Watch
from tests.helpers.runs import trainer_of

FSDP = {"fsdp": True, "fsdp_config": {"transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}


def trainer(folder, name, callbacks, sharded=False, adapted=False, **args):
    """A Trainer on this rank; accelerate starts anew, so that one job can hold several runs."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    os.environ.pop("ACCELERATE_USE_FSDP", None)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    if adapted:
        torch.manual_seed(0)
        options = {"r": 4, "lora_dropout": 0.1, "target_modules": ["gate_proj", "down_proj"]}
        model = get_peft_model(model, LoraConfig(**options))
    if sharded:
        args |= FSDP
        allow_fsdp()
    return trainer_of(tokenizer, folder / name, callbacks, model=model, args=args)


def allow_fsdp():
    """Accelerate switches FSDP on for accelerators only: call the CPUs one."""
    whole = Trainer.create_accelerator_and_postprocess

    def create(self):
        Trainer.create_accelerator_and_postprocess = whole
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        whole(self)
        assert self.is_fsdp_enabled

    Trainer.create_accelerator_and_postprocess = create


def digest(tensors):
    found = hashlib.sha256()
    for name, tensor in tensors:
        whole = local_shard(torch.as_tensor(tensor).detach()).contiguous()
        found.update(f"{name} {whole.dtype} {tuple(whole.shape)}".encode())
        found.update(
            whole.view(torch.uint8).numpy().tobytes() if whole.ndim else repr(whole).encode()
        )
    return found.hexdigest()


def ended(trainer):
    """What training is made of on this rank: weights, optimizer, random numbers, losses."""
    state = trainer.optimizer.state
    groups = trainer.optimizer.param_groups
    moments = [
        (f"{k} {name}", state[parameter][name])
        for k, parameter in enumerate(p for group in groups for p in group["params"])
        for name in sorted(state[parameter])
    ]
    assert len(moments) >= 3 * 12
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return {
        "weights": digest(trainer.model.named_parameters()),
        "optimizer": digest(moments),
        "random": digest([("torch", torch.get_rng_state())]),
        "losses": losses,
        "kind": type(trainer.model_wrapped).__name__,
    }


def train(folder, name, sharded, probed, config=BUILTIN, **args):
    with Watch() as watch:
        callbacks = [watch.callback(config, every=2)] if probed else []
        run = trainer(folder, name, callbacks, sharded, **args)
        run.train()
    return {"end": ended(run), "reports": watch.reports}
