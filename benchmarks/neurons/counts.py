"""What counting firings adds to a forward pass: launches, bytes, a predicted ratio.

    python benchmarks/neurons/counts.py [--shapes 1B 8B] [--out F]

Nothing is timed and no GPU is needed: tensors have no data (``FakeTensorMode``). Launches, bytes
and the roofline of the prediction are those of ``benchmarks/launches.py``. Both sides run the plain
path: on a GPU the kernels pool the states, which makes the rest of a probe cheaper, and what
counting adds is nearly the same.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[1]))

import subjects
from neuronxa_callback.metrics.neurons.counts import FiringCounts, SentenceTokens
from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe import pooling
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.distributed.world import World
from neuronxa_callback.probe.neurons.counter import FiringCounter
from neuronxa_callback.probe.similarity import LayerLayout, SimilarityAccumulator
from parts.operator_counts import Counts

SENTENCES, TOKENS, PAIRS, LANGUAGES = 178, 23, 100, 26
METRICS, DIAGNOSTICS = ("nasca", "navca"), ("sinks", "activity")


class Firings(FiringCounter):
    """A counter of a model's layers, for one microbatch of sentences."""

    def __init__(self, widths, batch):
        self.device = torch.device("cpu")
        self.parts = [FiringCounts(LANGUAGES, PAIRS, width, self.device) for width in widths]
        self._batch = batch


def reading(shape, neurons, states):
    """What a probe does with the states of one microbatch in all layers, counted."""
    layers, width = subjects.SHAPES[shape]["num_hidden_layers"], states.shape[-1]
    layout = LayerLayout(tuple(range(layers)), (width,) * layers, (0,) * layers)
    site = {"nas": "gate", "nav": "product"}
    reads = reads_of(METRICS, DIAGNOSTICS, neurons)
    numbers = SentenceTokens(*(torch.ones(SENTENCES, dtype=torch.int64) for _ in range(3)))
    accumulator = SimilarityAccumulator(
        {"nas": layout, "nav": layout},
        {site[read.source]: (read,) for read in reads}, World(), torch.device("cpu"),
        Firings((width,) * layers, numbers) if neurons else None,
    )  # fmt: skip
    pivot = accumulator.empty_pivot(PAIRS)
    mask = torch.ones(SENTENCES, TOKENS, dtype=torch.bool)
    # In one block of sentences, as on a GPU.
    with mock.patch.object(pooling, "CPU_BLOCK", 2**62), Counts("cpu") as counts:
        accumulator.begin(Batch(mask.long(), mask, mask), pivot, False, tuple(range(SENTENCES)))
        for layer in range(layers):
            for at in accumulator.reads:
                accumulator.dense(layer, at, states, 0)
        accumulator.partial_similarity()
    return counts


def measure(shape):
    """Counts of the bare forward, of a probe's reads without counting and with it; one read."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = subjects.llama(shape, torch.bfloat16)
        ids = torch.ones(SENTENCES, TOKENS, dtype=torch.long)
        with Counts("cpu") as bare:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        width = model.config.intermediate_size
        states = torch.empty(SENTENCES, TOKENS, width, dtype=torch.bfloat16)
        without, counted = (
            reading(shape, neurons, states) for neurons in ((), ("overlap", "sharing"))
        )
    layers = subjects.SHAPES[shape]["num_hidden_layers"]
    return bare, without, counted, layers, layers * states.numel() * states.element_size()


def row(shape):
    """One line of Markdown."""
    bare, without, counted, layers, one_read = measure(shape)
    cells = (
        f"{(counted.launches.total() - without.launches.total()) / layers:.1f}",
        f"{(counted.bytes - without.bytes) / one_read:.2f}",
        f"{bare.bytes / one_read:.0f}",
        f"{(counted.seconds - without.seconds) / bare.seconds:.3f}",
        f"{without.seconds / bare.seconds:.3f}",
    )
    return f"| {shape} | {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=subjects.SHAPES, default=["1B", "8B"])
    parser.add_argument("--out")
    options = parser.parse_args()
    heads = (
        "shape", "launches that counting adds per layer", "bytes that it adds, over one read",
        "bytes of the forward, over one read", "predicted share of the forward that it adds",
        "the same of all else that a probe reads, on the plain path",
    )  # fmt: skip
    lines = [
        subjects.heading("What counting firings adds to a forward pass, as counts", "cpu"),
        f"{SENTENCES} sentences x {TOKENS} tokens per forward, {PAIRS} pairs, {LANGUAGES} languages"
        " with the pivot, fake tensors, bf16.\n",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * len(heads)}",
        *map(row, options.shapes),
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
