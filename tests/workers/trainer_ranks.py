"""What ``torchrun`` starts in test_trainer_ranks.py: a real Trainer; each rank writes what it saw.

Usage: trainer_ranks.py FOLDER SCENE [SCENE ...]; FOLDER holds a saved model and its tokenizer.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from neuronxa_callback import NeuronXACallback, Probe, StopRule
from neuronxa_callback.probe.similarity import SimilarityAccumulator
from tests.helpers import faults
from tests.helpers.rank_training import digest, ended, train, trainer
from tests.helpers.ranks import BUILTIN, ONE, PLACES, SMALL, Watch, error_of, leave, measurement
from tests.helpers.scripted import ScriptedCallback, with_score


def begin(folder):
    """The reports of a run of one step."""
    return train(folder, "begin", False, True, max_steps=1)["reports"]


def ddp(folder):
    """Training with probes and without, under DDP; the first leaves a checkpoint of step 4."""
    saving = {"save_strategy": "steps", "save_steps": 4}
    return {
        "with": train(folder, "ddp_with", False, True, **saving),
        "without": train(folder, "ddp_without", False, False),
    }


def fsdp2(folder):
    """The same with weights in shards."""
    return {
        "with": train(folder, "fsdp2_with", True, True),
        "without": train(folder, "fsdp2_without", True, False),
    }


STACK = {"adapted": True, "bf16": True, "gradient_checkpointing": True}
COMPILED = {"torch_compile": True, "torch_compile_backend": "aot_eager"}


def stacked(folder):
    """Adapters, bf16 and activation checkpointing at once, under DDP (compiled) and FSDP2."""
    found = {}
    for kind, sharded, more in (("ddp", False, COMPILED), ("fsdp2", True, {})):
        for probed in (True, False):
            options = {**STACK, **more}
            each = train(folder, f"stacked_{kind}_{probed}", sharded, probed, SMALL, **options)
            found[f"{kind} {'with' if probed else 'without'}"] = each
    return found


def single(folder):
    """One language alone: no rank may lack its pivot."""
    model = AutoModelForCausalLM.from_pretrained(folder / "model").eval()
    return measurement(Probe(ONE, AutoTokenizer.from_pretrained(folder / "model")).run(model))


def resume(folder):
    """Goes on from the checkpoint that another number of ranks has left."""
    with Watch() as watch:
        run = trainer(folder, "resumed", [watch.callback(BUILTIN, every=2)])
        run.train(resume_from_checkpoint=str(folder / "ddp_with" / "checkpoint-4"))
    history = [row["step"] for row in run.state.log_history if "neuronxa/nasca/mean" in row]
    return {"reports": watch.reports, "history": history}


def stop(folder):
    """A rule that fires at step 4, but on the first rank only: where does each rank stop?"""
    found = []
    for sharded in (False, True):
        options = {"every": 2, "stop": StopRule.target(0.3)}
        if os.environ["RANK"] == "0":
            callback = ScriptedCallback(SMALL, improving_at_4, **options)
        else:
            callback = NeuronXACallback(SMALL, **options)
        run = trainer(folder, f"stop_{sharded}", [callback], sharded, max_steps=8)
        run.train()
        saved = run.state.stateful_callbacks["neuronxa_state"]
        found.append([run.state.global_step, saved["stopped"] is not None])
    return found


def improving_at_4(report):
    """All pairs are aligned from step 4 on."""
    return with_score(report, 1.0 if report.step >= 4 else 0.0)


class FailAt(TrainerCallback):
    """Makes rank 1 fail inside the probe of one step; stands before the probe's callback.

    ``place`` is the method of ``SimilarityAccumulator`` that fails, at its ``call``-th call.
    """

    def __init__(self, step, fail, place="dense", call=20):
        self.step, self.fail, self.place, self.call = step, fail, place, call
        self.whole = getattr(SimilarityAccumulator, place)

    def on_step_end(self, args, state, control, **kwargs):
        setattr(SimilarityAccumulator, self.place, self.whole)
        if state.global_step == self.step and args.process_index == 1:
            seen = []

            def failing(*arguments):
                seen.append(1)
                if len(seen) == self.call:
                    self.fail()
                return self.whole(*arguments)

            setattr(SimilarityAccumulator, self.place, failing)


def raising(error):
    def fail():
        raise error

    return fail


def failing(folder, name, sharded, fail_at, **args):
    with Watch() as watch:
        run = trainer(folder, name, [fail_at, watch.callback(SMALL, every=2)], sharded, **args)
        run.train()
    return watch, run


def fault(folder):
    """A hook of ours fails on rank 1 at step 2: one warning on all, and training as if nothing."""
    found = []
    for sharded in (False, True):
        fail_at = FailAt(2, raising(ValueError("a hook broke")))
        watch, run = failing(folder, f"fault_{sharded}", sharded, fail_at)
        calm = train(folder, f"calm_{sharded}", sharded, False)
        same = ended(run) == calm["end"]
        found.append({"warned": watch.warned, "steps": sorted(watch.reports), "same": same})
    return found


def memory(folder):
    """Memory runs out on rank 1 at step 2; then a run goes on from a checkpoint of step 4."""
    found = {}
    for name, (sharded, place, call) in PLACES.items():
        fail_at = FailAt(2, raising(torch.OutOfMemoryError("no room")), place, call)
        saving = {"save_strategy": "steps", "save_steps": 4} if name == "ddp hook" else {}
        watch, _ = failing(folder, name.replace(" ", "_"), sharded, fail_at, **saving)
        found[name] = {"warned": watch.warned, "used": used(watch)}
    with Watch() as watch:
        run = trainer(folder, "memory_resumed", [watch.callback(SMALL, every=2)])
        run.train(resume_from_checkpoint=str(folder / "ddp_hook" / "checkpoint-4"))
    return {**found, "resumed": used(watch)}


def callback_faults(folder):
    """The callback fails on the first rank only, between two probes, in one place per run."""
    found = {}
    for name, place in faults.CALLBACK.items():
        rule = StopRule.target(0.99)
        options = {"max_steps": 24, "eval_strategy": "steps", "eval_steps": 8}
        with Watch() as watch, faults.fault(place, ValueError(name), rank=0):
            callback = watch.callback(SMALL, every=4, stop=rule, max_overhead=0.9)
            run = trainer(folder, name.replace(" ", "_"), [callback], **options)
            error = error_of(run.train)
        steps = [row["step"] for row in run.state.log_history if "neuronxa/nasca/mean" in row]
        found[name] = {"error": error, "warned": watch.warned, "steps": steps}
    return found


def used(watch):
    return {
        step: json.loads(text)["fingerprint"]["environment"]["batch_tokens"]
        for step, text in sorted(watch.reports.items())
    }


def loop(folder):
    """A training loop of one's own with FSDP2, probed before each optimizer step, or never."""
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    ids = torch.tensor([tokenizer("one two three four five six")["input_ids"][:8]])
    ends = []
    for probed in (True, False):
        model = AutoModelForCausalLM.from_pretrained(folder / "model")
        for layer in model.model.layers:
            fully_shard(layer)
        fully_shard(model)
        probe, optimizer = Probe(SMALL, tokenizer), torch.optim.SGD(model.parameters(), lr=0.5)
        losses = []
        for _ in range(3):
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            if probed:
                probe.run(model)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        ends.append([losses, digest(model.named_parameters())])
    return ends


def wrapped(folder):
    """A loop of one's own with DDP and buffers: the report, and what the wrapper then thinks."""
    dist.init_process_group("gloo")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    probe = Probe(SMALL, tokenizer)
    bare = measurement(probe.run(model))
    model = DistributedDataParallel(model)
    assert model.modules_buffers
    before = model.require_forward_param_sync
    return [bare == measurement(probe.run(model)), before, model.require_forward_param_sync]


def killed(folder):
    """Somebody sends SIGTERM to rank 1 in mid-probe."""
    terminate(folder, sharded=False)


def killed_in_shards(folder):
    terminate(folder, sharded=True)


def terminate(folder, sharded):
    def fail():
        print("SIGTERM to myself", flush=True)
        os.kill(os.getpid(), signal.SIGTERM)

    callbacks = [FailAt(2, fail), NeuronXACallback(SMALL, every=2)]
    trainer(folder, f"killed_{sharded}", callbacks, sharded).train()


def broken_forward(folder):
    """The model's own forward fails on rank 1 in mid-probe, where weights are in shards."""

    class Break(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            if state.global_step == 2 and args.process_index == 1:
                calls = []

                def fail(module, inputs):
                    calls.append(1)
                    if len(calls) == 4:
                        raise RuntimeError("a kernel broke")

                model.model.layers[1].mlp.down_proj.register_forward_pre_hook(fail)

    trainer(folder, "broken", [Break(), NeuronXACallback(SMALL, every=2)], sharded=True).train()


def main(folder, scenes):
    torch.set_num_threads(1)
    found = {scene: globals()[scene](folder) for scene in scenes}
    place = f"{os.environ['RANK']}-{os.environ['WORLD_SIZE']}"
    (folder / f"{'-'.join(scenes)}.{place}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
