"""Counts what a probe adds to the forward pass of a model: launches, bytes, a predicted ratio.

    python benchmarks/launches.py [--out benchmarks/launches_<date>.md]

Nothing is timed and no GPU is needed. Where torch is built with CUDA, everything runs on tensors
without data (``FakeTensorMode``) on a CUDA device, else on the CPU. A dispatch mode sees every
operator: one that is no view is a launch, which reads its inputs and writes its outputs once. The
prediction is a roofline of an H200, summed over launches: each takes the longest of 4 us, its bytes
over 4.8 TB/s, and its multiplications over the peak of their type (bf16 790, else 60 TFLOP/s). The
proofs of the first probe and the scoring of languages are left out.
"""

import argparse
from collections import Counter
from contextlib import nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import subjects
from neuronxa_callback.metrics.registry import reads_of
from neuronxa_callback.probe.batching import Batch
from neuronxa_callback.probe.distributed.world import World
from neuronxa_callback.probe.similarity import LayerLayout, SimilarityAccumulator

VIEWS = {"view", "_unsafe_view", "expand", "slice", "select", "unsqueeze", "squeeze", "transpose"}
VIEWS |= {"t", "permute", "detach", "alias", "reshape", "unbind", "as_strided", "diagonal"}
VIEWS |= {"device", "lift_fresh", "split", "chunk", "empty", "empty_strided", "new_empty"}
BANDWIDTH, LAUNCH = 4.8e12, 4e-6
PEAK = {torch.bfloat16: 790e12, torch.float32: 60e12, torch.float64: 60e12}
PRODUCTS = {"mm", "bmm", "addmm", "_scaled_dot_product_flash_attention"}
KINDS = {
    "NASCA alone": (("nasca",), ()),
    "default": (("nasca", "navca"), ("sinks", "activity")),
}
SENTENCES, TOKENS, PAIRS = 178, 23, 100


class Counts(TorchDispatchMode):
    """Launches, bytes and predicted seconds of everything that runs inside."""

    def __init__(self):
        super().__init__()
        self.launches, self.bytes, self.seconds = Counter(), 0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            tensors = list({id(t): t for t in tensors}.values())
            moved = sum(t.numel() * t.element_size() for t in tensors)
            self.launches[name] += 1
            self.bytes += moved
            work = flops(name, args, out) / PEAK.get(tensors[0].dtype, 60e12) if tensors else 0
            self.seconds += max(moved / BANDWIDTH, work, LAUNCH)
        return out


def flops(name, args, out):
    """Multiplications and additions of a matrix product; 0 for other operators."""
    if name == "compare":
        return 2 * args[0].numel() * args[1].shape[1] * (1 if not args[3] else 0.3)
    if name in PRODUCTS and isinstance(out, torch.Tensor):
        return 2 * out.numel() * args[1 if name == "addmm" else 0].shape[-1]
    return 0


def measure(shape_name, kind, device, fake):
    """Counts of the bare forward, of the forward with a probe's reads, and of one read of all."""
    metrics, diagnostics = KINDS[kind]
    dtype = torch.bfloat16 if fake else torch.float32
    with FakeTensorMode(allow_non_fake_inputs=True) if fake else nullcontext(), torch.no_grad():
        model = subjects.llama(shape_name, dtype, device)
        ids = torch.ones(SENTENCES, TOKENS, dtype=torch.long, device=device)
        mask = torch.ones(SENTENCES, TOKENS, dtype=torch.bool, device=device)
        with Counts() as bare:
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
        layers, width = len(model.model.layers), model.config.intermediate_size
        layout = LayerLayout(tuple(range(layers)), (width,) * layers, (0,) * layers)
        reads = reads_of(metrics, diagnostics)
        site = {"nas": "gate", "nav": "product"}
        accumulator = SimilarityAccumulator(
            {"nas": layout, "nav": layout},
            {site[read.source]: (read,) for read in reads}, World(), torch.device(device),
        )  # fmt: skip
        pivot = accumulator.empty_pivot(PAIRS)
        tapped = 0

        def gate(part):
            def hook(module, args, out):
                accumulator.dense(part, "gate", out, 0)

            return hook

        def product(part):
            def hook(module, args):
                if "product" in accumulator.reads:
                    accumulator.dense(part, "product", args[0], 0)

            return hook

        for part, layer in enumerate(model.model.layers):
            layer.mlp.act_fn = torch.nn.SiLU()
            layer.mlp.act_fn.register_forward_hook(gate(part))
            layer.mlp.down_proj.register_forward_pre_hook(product(part))
        with Counts() as probed:
            accumulator.begin(Batch(ids, mask, mask), pivot, False, tuple(range(SENTENCES)))
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            accumulator.partial_similarity()
        tapped = len(reads) * layers * SENTENCES * TOKENS * width * dtype.itemsize
    return bare, probed, tapped, layers, "fused" if accumulator.fused else "plain"


def rows(shapes, device, fake):
    """One line of Markdown per shape and kind."""
    for shape in shapes:
        for kind in KINDS:
            bare, probed, tapped, layers, path = measure(shape, kind, device, fake)
            ours = (sum(probed.launches.values()) - sum(bare.launches.values())) / layers
            its = sum(bare.launches.values()) / layers
            moved = (probed.bytes - bare.bytes) / tapped
            ratio = probed.seconds / bare.seconds
            cells = (f"{its:.1f}", f"{ours:.2f}", f"{moved:.2f}", f"{ratio:.3f}")
            yield f"| {' | '.join((shape, kind, path, *cells))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=subjects.SHAPES)
    parser.add_argument("--out")
    options = parser.parse_args()
    fake = torch.version.cuda is not None
    device = "cuda" if fake else "cpu"
    shapes = options.shapes or (["1B", "8B"] if fake else ["tiny"])
    lines = [
        subjects.heading("What a probe adds to a forward pass, as counts", "cpu"),
        f"{SENTENCES} sentences x {TOKENS} tokens per forward, {PAIRS} pairs, on"
        f" {'fake CUDA, bf16' if fake else 'CPU, fp32'}.\n",
        "| shape | what | path | launches of a layer | ours per layer and forward |"
        " bytes over one read | predicted ratio |",
        "|---|---|---|---|---|---|---|",
        *rows(shapes, device, fake),
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
