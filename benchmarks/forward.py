"""Measures the cost of a probe, compared with the bare forward pass of the same microbatches.

    python benchmarks/forward.py [--shape 100M] [--rounds 7] [--device cuda] [--out F]

The bare forward pass uses the same model object and the same microbatches, in eval mode, without
gradients, with logits of one token. The probe adds hooks, pooling, scoring, intervals and a report.
"""

import argparse
import statistics

import torch

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.probe.batching import collate, microbatches

KINDS = {
    "nasca": (("nasca",), ()),
    "nasca, navca": (("nasca", "navca"), ()),
    "nasca, navca, mexa": (("nasca", "navca", "mexa"), ()),
    "all four": (("nasca", "navca", "mexa", "mexa_last"), ()),
    "default, with diagnostics": (("nasca", "navca"), None),
}


def bare(model, probe):
    """A function that runs the microbatches of a probe and keeps no result."""
    _, groups = probe.tokenize(model)
    device = next(model.parameters()).device
    batches = []
    for work in microbatches(groups, probe.batch_tokens):
        sentences = groups[work.group].sentences(work.window)
        batches.append(collate([sentences[row] for row in work.rows], probe.tokenizer.pad))

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
        calls.setdefault("bare", bare(model, probe))
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
        f"| bare forward | {statistics.median(seconds['bare']):.3f} | 1 | | |",
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
