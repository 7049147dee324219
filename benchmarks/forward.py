"""Measures the cost of a probe, compared with bare forward passes of the same sentences.

    python benchmarks/forward.py [--shape 100M] [--rounds 7] [--device cuda] [--out F]

There are two ratios: to the bare forward passes of the probe's own microbatches, and to the floor,
the fastest forward passes of the same sentences. The floor sorts all of them by length, mixes pivot
and languages, and takes of several sizes of a batch the fastest of ``CANDIDATES``; its time counts
real tokens only, as if its padding were free. Both use the same model object, in eval mode, without
gradients, with logits of one token. The probe adds hooks, pooling, scoring, intervals and a report.
"""

import argparse
import statistics

import torch

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.probe.batching import collate, cut, microbatches

KINDS = {
    "nasca": (("nasca",), ()),
    "nasca, navca": (("nasca", "navca"), ()),
    "nasca, navca, mexa": (("nasca", "navca", "mexa"), ()),
    "all four": (("nasca", "navca", "mexa", "mexa_last"), ()),
    "default, with diagnostics": (("nasca", "navca"), None),
}


CANDIDATES = (1024, 2048, 4096, 8192)
"""Most tokens of a batch of the floor."""


def bare(model, probe):
    """A function that runs the microbatches of a probe and keeps no result."""
    _, groups = probe.tokenize(model)
    batches = []
    for work in microbatches(groups, probe.batch_tokens):
        sentences = groups[work.group].sentences(work.window)
        batches.append(collate([sentences[row] for row in work.rows], probe.tokenizer.pad))
    return forwards(model, batches)


def floors(model, probe):
    """(size of a batch -> a function that runs all sentences, size -> share of real tokens)."""
    _, groups = probe.tokenize(model)
    sentences = [
        sentence
        for group in groups
        for window in (None, *range(len(group.windows)))
        for sentence in group.sentences(window)
    ]
    lengths = [len(sentence.ids) for sentence in sentences]
    calls, shares = {}, {}
    for size in CANDIDATES:
        rows_of_batches = cut(lengths, size)
        batches = [
            collate([sentences[row] for row in rows], probe.tokenizer.pad)
            for rows in rows_of_batches
        ]
        calls[size] = forwards(model, batches)
        shares[size] = sum(lengths) / sum(batch.ids.numel() for batch in batches)
    return calls, shares


def fastest(model, probe, device):
    """The fastest of the floors in one run each after a warm-up, and its share of real tokens."""
    calls, shares = floors(model, probe)
    seconds = {size: times[0] for size, times in subjects.paired(calls, 1, device).items()}
    best = min(calls, key=lambda size: shares[size] * seconds[size])
    return calls[best], shares[best]


def forwards(model, batches):
    """A function that runs these batches and keeps no result."""
    device = next(model.parameters()).device

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
        if not calls:
            calls["bare"] = bare(model, probe)
            calls["floor"], share = fastest(model, probe, device)
        calls[name] = lambda name=name, probe=probe: reports.update({name: probe.run(model)})
    seconds = subjects.paired(calls, rounds, device)
    seconds["floor"] = [share * each for each in seconds["floor"]]
    return seconds, reports


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="100M")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--languages", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out")
    options = parser.parse_args()
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    corpus = corpus.select(n_pairs=options.pairs)
    tokenizer = subjects.tokenizer_of(corpus)
    model = subjects.llama(options.shape, getattr(torch, options.dtype), options.device)
    seconds, reports = measure(
        model, tokenizer, corpus, options.kinds, options.rounds, options.batch_tokens,
        options.device,
    )  # fmt: skip
    lines = [
        subjects.heading("A probe against the bare forward pass", options.device),
        f"Llama {options.shape} shape, {options.dtype}, {options.languages} languages x "
        f"{options.pairs} pairs, batch_tokens {options.batch_tokens}, "
        f"{options.rounds} paired rounds.\n",
        "| what | median seconds | over bare: median | minimum | maximum | over floor: median |"
        " minimum | maximum |",
        "|---|---|---|---|---|---|---|---|",
    ]
    over = {base: subjects.ratios(seconds, base) for base in ("bare", "floor")}
    for name, times in seconds.items():
        cells = [f"{ratio:.3f}" for base in over for ratio in over[base].get(name, (1.0, 1.0, 1.0))]
        lines.append(f"| {name} | {statistics.median(times):.3f} | {' | '.join(cells)} |")
    padding = [
        report.diagnostics["tokens"]["padding"] for report in reports.values() if report.diagnostics
    ]
    if padding:
        lines.append(f"\nPadding: {padding[0]:.1%} of the tokens.")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
