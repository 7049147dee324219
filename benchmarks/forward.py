"""Measures the cost of a probe, compared with the bare forward pass of the real tokens.

    python benchmarks/forward.py [--shape 100M] [--rounds 7] [--device cuda] [--out F]

The floor is the bare forward pass of all sentences in batches of one length, which have no padding;
that of the probe's own microbatches is reported beside it. Both use the same model object, in eval
mode, without gradients, with logits of one token. The probe adds hooks, pooling, scoring, intervals
and a report.
"""

import argparse
import statistics
from itertools import groupby

import torch

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.probe.batching import collate, microbatches


def length(sentence):
    return len(sentence.ids)


def batched(items, n):
    """Lists of at most ``n`` items."""
    items = list(items)
    return [items[k : k + n] for k in range(0, len(items), n)]


KINDS = {
    "nasca": (("nasca",), ()),
    "nasca, navca": (("nasca", "navca"), ()),
    "nasca, navca, mexa": (("nasca", "navca", "mexa"), ()),
    "all four": (("nasca", "navca", "mexa", "mexa_last"), ()),
    "default, with diagnostics": (("nasca", "navca"), None),
}


def bare(model, probe, padded):
    """A function that runs a probe's sentences and keeps no result.

    Args:
        model: The model.
        probe: Its sentences and ``batch_tokens`` are used.
        padded: Whether to run the probe's own microbatches; else batches of sentences of one
            length, which have no padding: the real tokens alone.
    """
    _, groups = probe.tokenize(model)
    device = next(model.parameters()).device
    if padded:
        batches = [
            [groups[work.group].sentences(work.window)[row] for row in work.rows]
            for work in microbatches(groups, probe.batch_tokens)
        ]
    else:
        sides = [side for group in groups for side in (group.pivot, *group.targets)]
        sentences = sorted((each for side in sides for each in side.sentences), key=length)
        batches = []
        for n, alike in groupby(sentences, key=length):
            batches += batched(alike, max(1, probe.batch_tokens // n))
    batches = [collate(sentences, probe.tokenizer.pad) for sentences in batches]

    def run():
        with torch.no_grad():
            for batch in batches:
                model(
                    input_ids=batch.ids.to(device),
                    attention_mask=batch.mask.long().to(device),
                    use_cache=False,
                    logits_to_keep=1,
                )

    return run


def measure(model, tokenizer, corpus, kinds, rounds, batch_tokens=4096, device="cpu"):
    """(kind -> seconds per round, kind -> report)."""
    calls, reports = {}, {}
    for name in kinds:
        metrics, diagnostics = KINDS[name]
        options = {} if diagnostics is None else {"diagnostics": diagnostics}
        config = ProbeConfig(
            corpus=corpus, n_pairs=corpus.n_pairs, metrics=metrics, batch_tokens=batch_tokens,
            **options,
        )  # fmt: skip
        probe = Probe(config, tokenizer)
        calls.setdefault("bare", bare(model, probe, padded=False))
        calls.setdefault("its own microbatches, bare", bare(model, probe, padded=True))
        calls[name] = lambda name=name, probe=probe: reports.update({name: probe.run(model)})
    return subjects.paired(calls, rounds, device), reports


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="100M")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out")
    options = parser.parse_args()
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE)
    tokenizer = subjects.tokenizer_of(corpus)
    model = subjects.llama(options.shape, getattr(torch, options.dtype), options.device)
    seconds, reports = measure(
        model, tokenizer, corpus, options.kinds, options.rounds, options.batch_tokens,
        options.device,
    )  # fmt: skip
    lines = [
        subjects.heading("A probe against the bare forward pass", options.device),
        f"Llama {options.shape} shape, {options.dtype}, 12 languages x 100 pairs, "
        f"batch_tokens {options.batch_tokens}, {options.rounds} paired rounds.\n",
        "| what | median seconds | median ratio | minimum | maximum |",
        "|---|---|---|---|---|",
        f"| bare forward of the real tokens | {statistics.median(seconds['bare']):.3f} | 1 | | |",
    ]
    for name, (middle, low, high) in subjects.ratios(seconds, "bare").items():
        own = statistics.median(seconds[name])
        lines.append(f"| {name} | {own:.3f} | {middle:.3f} | {low:.3f} | {high:.3f} |")
    padding = [
        report.diagnostics["tokens"]["padding"] for report in reports.values() if report.diagnostics
    ]
    if padding:
        lines.append(f"\nPadding: {padding[0]:.1%} of the tokens.")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
