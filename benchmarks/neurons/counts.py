"""What counting firings adds to a forward pass: launches, bytes, a predicted ratio.

    python benchmarks/neurons/counts.py [--shapes 1B 8B] [--out F]

Nothing is timed and no GPU is needed: tensors have no data (``FakeTensorMode``). An operator that
is no view is a launch, which reads its inputs and writes its outputs once; of an indexed sum, the
rows that it adds to. The prediction is a roofline of an H200, summed over launches: each takes the
longest of 4 us, its bytes over 4.8 TB/s, and its multiplications over 790 TFLOP/s (bf16) or 60.
Both sides run the plain path: on a GPU the kernels pool the states, which makes the rest of a probe
cheaper, and what counting adds is nearly the same.
"""

import argparse
import sys
from pathlib import Path
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

sys.path.insert(0, str(Path(__file__).parents[1]))

import subjects
from neuronxa_callback.metrics.neurons.counts import FiringCounts, SentenceTokens
from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe import pooling
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.distributed.world import World
from neuronxa_callback.probe.neurons.counter import FiringCounter
from neuronxa_callback.probe.similarity import LayerLayout, SimilarityAccumulator

VIEWS = {"view", "_unsafe_view", "expand", "slice", "select", "unsqueeze", "squeeze", "transpose"}
VIEWS |= {"t", "permute", "detach", "alias", "reshape", "unbind", "as_strided", "diagonal"}
VIEWS |= {"device", "lift_fresh", "split", "chunk", "empty", "empty_strided", "new_empty"}
BANDWIDTH, LAUNCH = 4.8e12, 4e-6
SENTENCES, TOKENS, PAIRS, LANGUAGES = 178, 23, 100, 26
METRICS, DIAGNOSTICS = ("nasca", "navca"), ("sinks", "activity")


class Counts(TorchDispatchMode):
    """Launches, bytes and predicted seconds of everything that runs inside."""

    def __init__(self):
        super().__init__()
        self.launches, self.bytes, self.seconds = 0, 0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            tensors = list({id(t): t for t in tensors}.values())
            if name == "index_add_":
                tensors = [args[2], args[3], args[3], args[3]]  # the rows, added to, and written
            moved = sum(t.numel() * t.element_size() for t in tensors)
            self.launches += 1
            self.bytes += moved
            work = 0.0
            if func in flop_registry or func.overloadpacket in flop_registry:
                counted = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
                peak = 790e12 if tensors[0].dtype == torch.bfloat16 else 60e12
                work = counted / peak
            self.seconds += max(moved / BANDWIDTH, work, LAUNCH)
        return out


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
    with mock.patch.object(pooling, "CPU_BLOCK", 2**62), Counts() as counts:
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
        with Counts() as bare:
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
        f"{(counted.launches - without.launches) / layers:.1f}",
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
