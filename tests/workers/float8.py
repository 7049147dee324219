"""What ``torchrun`` starts in test_float8.py: linear layers of torchao that compute in float8.

Usage: float8.py FOLDER SCENE [SCENE ...]
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import convert_model_to_fp8_ao
from torch.distributed.fsdp import fully_shard
from torchao.float8 import Float8LinearConfig, convert_to_float8_training

from neuronxa_callback import ProbeConfig
from tests.helpers.own_models import NanoGPT, hits_of, own_loop, probed, spread
from tests.helpers.rank_training import ended
from tests.helpers.ranks import Watch, leave, measurement, noisy_llama, probe_of_seven
from tests.helpers.runs import TEXTS, trainer_of
from tests.helpers.tiny import llama, tokenizer_of
from tests.helpers.tiny import parallel as pairs_of

RECIPES = ("tensorwise", "rowwise", "rowwise_with_gw_hp")


def recipe(name, **options):
    """A recipe of torchao, computed as on a GPU, but by the CPU."""
    return replace(Float8LinearConfig.from_recipe_name(name), emulate=True, **options)


def in_float8(model, name, **options):
    return convert_to_float8_training(
        model,
        config=recipe(name, **options),
        module_filter_fn=lambda module, path: "head" not in path,
    )


def layers(model):
    return sum(type(module).__name__ == "Float8Linear" for module in model.modules())


def oracle(folder):
    """Verdicts of a probe, and of a loop over sentences that run alone."""
    found = {}
    for name in RECIPES:
        model = in_float8(spread(NanoGPT()), name)
        report = probed(model)
        alone = own_loop(model, lambda model, ids: model(ids))
        how = report.run["proof"]["batching"]
        found[name] = [hits_of(report), alone, how, layers(model)]
    return found


def training(folder):
    """A Trainer whose layers accelerate has converted, with probes and without."""
    found = []
    for probed_too in (True, False):
        for state in (AcceleratorState, GradientState, PartialState):
            state._reset_state()
        corpus = pairs_of(20)
        texts = [text for pair in corpus.pairs["deu_Latn"] for text in pair]
        model = llama(attention_dropout=0.2)
        convert_model_to_fp8_ao(model, config=recipe("tensorwise"))
        config = ProbeConfig(corpus=corpus, n_pairs=20, languages=("deu_Latn",))
        with Watch() as watch:
            callbacks = [watch.callback(config, every=2)] if probed_too else []
            name = f"float8_{probed_too}"
            run = trainer_of(tokenizer_of(texts + TEXTS), folder / name, callbacks, model)
            run.train()
        found.append({"end": ended(run), "steps": sorted(watch.reports), "layers": layers(model)})
    return found


def shards(folder):
    """The report of weights in shards that are gathered in float8, and of the whole model."""
    found = {}
    for name in ("tensorwise", "rowwise"):
        gathered = {"enable_fsdp_float8_all_gather": name == "tensorwise"}
        whole = in_float8(noisy_llama(), name)
        cut = in_float8(noisy_llama(), name, **gathered)
        for layer in cut.model.layers:
            fully_shard(layer)
        fully_shard(cut)
        few = {"languages": ("deu_Latn", "fra_Latn"), "n_pairs": 8}
        found[name] = [measurement(probe_of_seven(**few).run(each)) for each in (whole, cut)]
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    results = {scene: globals()[scene](folder) for scene in sys.argv[2:]}
    (folder / f"{dist.get_rank()}-{dist.get_world_size()}.json").write_text(json.dumps(results))
    leave()
