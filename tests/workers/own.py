"""What ``torchrun`` starts in test_own_ranks.py: registered measures that fail on rank 1 only.

Usage: own.py FOLDER
"""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from neuronxa_callback import Probe, ProbeConfig
from neuronxa_callback.extend import (
    Metric,
    register_diagnostic,
    register_metric,
    register_neuron_statistic,
)
from tests.helpers.extend.measures import breaks
from tests.helpers.probes import half_translated
from tests.helpers.ranks import leave, measurement, noisy_llama, texts_of
from tests.helpers.tiny import tokenizer_of


def on_rank_1(good, bad):
    return bad if dist.get_rank() == 1 else good


def main(folder):
    corpus = half_translated(20)
    tokenizer = tokenizer_of(texts_of(corpus))
    relu = {"value": torch.relu}
    for name, options in {
        "fine": {},
        "bad_value": {"value": on_rank_1(torch.relu, breaks)},
        "bad_weights": {"weights": on_rank_1(Metric().weights, breaks)},
        "bad_similarity": {"similarity": on_rank_1(Metric().similarity, breaks)},
        "differs": {"similarity": lambda *sums: on_rank_1(1, -1) * Metric().similarity(*sums)},
    }.items():
        register_metric(name, Metric(**relu | options))
    register_neuron_statistic("bad_counts", on_rank_1(lambda *counts: 1, breaks))
    register_neuron_statistic("layers", lambda layers, languages: len(layers))
    register_diagnostic("bad_look", on_rank_1(lambda compared: 1, breaks))
    register_diagnostic("pairs", lambda compared: len(compared.pairs))
    plain = {"corpus": corpus, "n_pairs": 20, "batch_tokens": 64}
    own = {
        "metrics": ("nasca", "navca", "fine", "bad_value", "bad_weights", "bad_similarity",
                    "differs"),
        "neurons": ("bad_counts", "layers"),
        "diagnostics": ("bad_look", "pairs"),
    }  # fmt: skip
    model = noisy_llama()
    without = Probe(ProbeConfig(**plain, diagnostics=()), tokenizer).run(model)
    with_own = Probe(ProbeConfig(**plain, **own), tokenizer).run(model)
    scores = {name: with_own.metrics[name] == without.metrics[name] for name in without.metrics}
    found = {"same": scores, "report": measurement(with_own)}
    (folder / f"{dist.get_rank()}.json").write_text(json.dumps(found))
    leave()


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    main(Path(sys.argv[1]))
