"""Counts the work that a probe adds to the forward passes: operators, bytes, a predicted ratio.

    python benchmarks/launches.py [--shapes 1B 8B] [--languages 25] [--device cuda] [--out F]
    python benchmarks/launches.py --shapes 8B --free 0

Nothing is timed. All tensors are fake (``FakeTensorMode``): a model of any size needs no memory,
and with torch's CUDA build no GPU. An operator that is no view is one launch, which reads its
inputs and writes its outputs once. The probe's executor runs every microbatch of the corpus and
collects every language; left out are tokenization, proofs, checks of the first microbatch, and the
statistics of the report.

The prediction is a roofline of an H200. A launch takes the longest of: its bytes at 4.8 TB/s, or at
50 GB/s between host and device; its multiplications and additions at 790 (16 bits) or 60 TFLOP/s
(fp32, fp64); 4 microseconds. The memory of the device that the parameters leave free decides where
the pivot's vectors lie; ``--free 0`` puts large ones on the host. On a CPU, the probe's plain path
is counted as it runs on a device without its kernels.
"""

import argparse
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.config import reads_by_site
from neuronxa_callback.probe import memory, pooling
from neuronxa_callback.probe.batching import collate, microbatches
from neuronxa_callback.probe.distributed.world import World
from neuronxa_callback.probe.executor import Executor, ProbeContext
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.sharding import shard_microbatches
from neuronxa_callback.probe.similarity import layouts_of
from neuronxa_callback.taps import discover
from neuronxa_callback.taps.experts.stacked import Recipe
from parts.operator_counts import Counts

H200 = (9, 0)
"""Compute capability of the device of the roofline."""
MEMORY = 141e9
"""Bytes of its memory."""
KINDS = {"NASCA alone": {"metrics": ("nasca",), "diagnostics": ()}, "default": {}}


class NoResults:
    """Takes results and drops them: fake tensors have no values to score."""

    def add_similarity(self, metric, language, similarity):
        pass

    def add_statistic(self, name, language, values):
        pass


@dataclass(frozen=True)
class Cost:
    """Totals over the microbatches of a corpus."""

    forwards: int
    layers: int
    launches: int
    """Of the bare forward passes."""
    added: Counter
    """Operator -> launches that the probe adds."""
    bytes: int
    """Bytes that the probe adds."""
    read: int
    """Bytes of one read of all states that are tapped."""
    waits: int
    """How often the host waits for the device (with fake tensors)."""
    ratio: float
    """Predicted seconds with the probe over those without."""
    path: str
    """How states were summed: ``fused`` or ``plain``."""

    def per_layer(self, launches):
        """The average per layer and forward."""
        return launches / (self.forwards * self.layers)


class BalancedRouting(TorchFunctionMode):
    """Gives fake tensors of a router the values that it needs: equally many rows per expert.

    ``waits`` counts the places where the host needs a value and waits for the device.
    """

    def __init__(self):
        super().__init__()
        self.waits, self.rows, self.counts = 0, 0, iter(())

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        selects = name == "__getitem__" and isinstance(args[1], torch.Tensor)
        if selects and args[1].dtype == torch.bool:
            self.waits += 1
            self.rows = len(args[0])
            return args[0].clone()
        if name == "bincount":
            # The count waits, and so does the list that is made of it, one ``item`` at a time.
            self.waits += 2
            experts = kwargs["minlength"]
            bounds = [self.rows * k // experts for k in range(experts + 1)]
            self.counts = iter([end - start for start, end in pairwise(bounds)])
            return args[0].new_zeros(experts)
        if name == "item":
            return next(self.counts)
        if name == "__bool__":
            # Whether all rows are kept.
            self.waits += 1
            return True
        return func(*args, **kwargs)


def plan_of(shape, moe):
    """The neurons, found in a model that is narrow everywhere else, so that it is small."""
    narrow = {"hidden_size": 16, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = subjects.build(shape, moe, torch.float32, "cpu", vocab_size=64, **narrow)
    ids = torch.arange(12).view(2, 6) + 5

    def run():
        with torch.no_grad():
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)

    # The signature holds the widths that differ.
    return replace(discover(model, run), signature=())


def measure(  # long: every part of a probe by hand
    shape, moe, kind, probe_inputs, device, dtype=torch.bfloat16, fake=True, free=None
):
    """The ``Cost`` of one model and kind of probe.

    Args:
        shape, moe, device, dtype: The model.
        kind: A key of ``KINDS``.
        probe_inputs: Corpus and tokenizer.
        fake: Whether tensors are fake.
        free: Bytes that are free on the device; None for all but the parameters.
    """
    corpus, tokenizer = probe_inputs
    config = ProbeConfig(corpus=corpus, n_pairs=corpus.n_pairs, **KINDS[kind])
    plan, probe = plan_of(shape, moe), Probe(config, tokenizer)
    groups = probe.tokenize(subjects.build(shape, moe, dtype, "meta"))[1]
    work = microbatches(groups, probe.batch_tokens)
    routing = BalancedRouting()
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(patch.object(pooling, "CPU_BLOCK", 2**62))
        if fake:
            stack.enter_context(patch.object(Recipe, "confirms", lambda *args: True))
            # Transformers asks before it uses grouped products; no GPU is there to answer.
            stack.enter_context(
                patch.object(torch.cuda, "get_device_capability", lambda *args: H200)
            )
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            stack.enter_context(routing)
        model = subjects.build(shape, moe, dtype, device)
        if free is None:
            free = MEMORY - sum(parameter.nbytes for parameter in model.parameters())
        stack.enter_context(patch.object(memory, "_free_bytes", lambda device: free))
        run = Forward(model, "decoder", hidden=False)

        def batches():
            for each in work:
                sentences = groups[each.group].sentences(each.window)
                yield collate([sentences[row] for row in each.rows], probe.tokenizer.pad)

        with Counts(device) as collating:
            held = list(batches())
        with Counts(device) as bare:
            for batch in held:
                run(batch)
        context = ProbeContext(
            model=model,
            forward=run,
            plan=plan,
            layouts=layouts_of(plan, ()),
            reads=reads_by_site(config),
            world=World(),
            device=torch.device(device),
            groups=groups,
            stages=shard_microbatches(work, groups, 1),
            dummy=held[0],
            pad=probe.tokenizer.pad,
            results=NoResults(),
        )
        executor = Executor(context)
        with Counts(device) as probed:
            path = executor.run().reduction
    tokens = sum(each.tokens for each in work)
    neurons = sum(
        part.width * (subjects.ACTIVE_EXPERTS / subjects.EXPERTS if moe else 1)
        for part in plan.parts
    )
    sites = len(reads_by_site(config))
    return Cost(
        forwards=len(work),
        layers=len(plan.layers),
        launches=bare.launches.total(),
        added=probed.launches - bare.launches - collating.launches,
        bytes=probed.bytes - bare.bytes - collating.bytes,
        read=int(tokens * neurons * sites * dtype.itemsize),
        waits=routing.waits,
        ratio=(probed.seconds - collating.seconds) / bare.seconds,
        path=path,
    )


def inputs(languages, pairs):
    """A part of the built-in corpus, and a tokenizer for it."""
    corpus = ParallelCorpus.builtin()
    corpus = corpus.select(corpus.languages[:languages], pairs)
    return corpus, subjects.tokenizer_of(corpus)


def rows(shapes, probe_inputs, device, free):
    """One line of Markdown per model and kind of probe."""
    for shape in shapes:
        for moe in (False, True):
            for kind in KINDS:
                cost = measure(shape, moe, kind, probe_inputs, device, free=free)
                cells = (
                    f"{shape} {'experts' if moe else 'dense'}",
                    kind,
                    cost.path,
                    f"{cost.forwards}",
                    f"{cost.per_layer(cost.launches):.1f}",
                    f"{cost.per_layer(cost.added.total()):.1f}",
                    f"{cost.per_layer(cost.waits):.1f}",
                    f"{cost.bytes / 1e9:.1f}",
                    f"{cost.bytes / cost.read:.2f}",
                    f"{cost.ratio:.3f}",
                )
                yield f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=subjects.SHAPES, default=["1B", "8B"])
    parser.add_argument("--languages", type=int, default=25)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--device", default="cpu" if torch.version.cuda is None else "cuda")
    parser.add_argument("--free", type=float, help="bytes that are free on the device")
    parser.add_argument("--out")
    options = parser.parse_args()
    probe_inputs = inputs(options.languages, options.pairs)
    lines = [
        subjects.heading("Work that a probe adds, as counts"),
        f"Fake tensors on {options.device}, bf16, {options.languages} languages x {options.pairs}"
        f" pairs. Experts: {subjects.ACTIVE_EXPERTS} of {subjects.EXPERTS} per token, as many"
        " active neurons as dense.",
        "Launches: the model's own and those that the probe adds, on average per layer and forward;"
        " waits: of the host for a value from the device.",
        "GB: read and written by what the probe adds, and over one read of all states that it"
        " taps.",
        "Ratio: predicted for an H200, over the bare forward passes of the same batches.\n",
        "| model | probe | path | forwards | launches, own | launches, added | waits |"
        " GB added | GB over one read | predicted ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows(options.shapes, probe_inputs, options.device, options.free),
    ]
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
