"""Started by test_deepspeed.py with ``torchrun``: real ZeRO stages on CPU, probed in training.

Usage: zero.py STAGE FOLDER
"""

import json
import sys
from pathlib import Path

import deepspeed
import torch
import torch.distributed as dist

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.probe.distributed import is_sharded
from tests.helpers.ranks import corpus_of_seven, leave, measurement, noisy_llama, texts_of
from tests.helpers.tiny import tokenizer_of

SETTINGS = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_force_ds_cpu_optimizer": False,
    "zero_allow_untested_optimizer": True,
}
# Shard parameters of any size: those of a tiny model are below the default threshold.
ZERO = {"stage3_param_persistence_threshold": 0, "stage3_max_live_parameters": 0}


def main(stage, folder):
    corpus = corpus_of_seven()
    tokenizer = tokenizer_of(texts_of(corpus))
    config = ProbeConfig(corpus=corpus, metrics=("nasca", "navca", "mexa"), batch_tokens=512)
    before = measurement(Probe(config, tokenizer).run(noisy_llama()))
    runs = []
    for probed in (True, False):
        model = noisy_llama()
        engine, *_ = deepspeed.initialize(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
            config={**SETTINGS, "zero_optimization": {"stage": stage, **ZERO}},
        )
        runs.append(train(engine, model, Probe(config, tokenizer) if probed else None))
    results = {"before": before, "with": runs[0], "without": runs[1]}
    (Path(folder) / f"{dist.get_rank()}.json").write_text(json.dumps(results))
    leave()


def train(engine, model, probe):
    """Losses, reports, and the whole weights at the end; probed before and between steps."""
    losses, reports = [], []
    ids = torch.arange(16).reshape(2, 8) + 10 + dist.get_rank()
    for _ in range(3):
        if probe is not None:
            reports.append(measurement(probe.run(model)))
        loss = engine(input_ids=ids, labels=ids).loss
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
    shards = is_sharded(model)
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        weights = [p.detach().double().sum().item() for p in model.parameters()]
    return {"losses": losses, "reports": reports, "weights": weights, "sharded": shards}


if __name__ == "__main__":
    torch.set_num_threads(1)
    deepspeed.init_distributed("gloo")
    main(int(sys.argv[1]), sys.argv[2])
