"""Compares a probe with MEXA's procedure: one sentence at a time and a Python double loop.

    python benchmarks/mexa_way.py [--shape 100M] [--languages 3] [--threads 1] [--out F]

The procedure is written here from its description (arXiv:2410.05873): each sentence alone through
the model with ``output_hidden_states=True``, position-weighted means, then for every layer a
matrix of cosines, cell by cell: one numpy dot and two norms. Both give the same scores.
"""

import argparse
import statistics

import numpy as np
import torch

import subjects
from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.metrics import alignment, scoring


def vectors_one_by_one(model, encoder, texts):
    """[layers, sentences, hidden] position-weighted means."""
    found = []
    for text in texts:
        ids = torch.tensor([encoder(text).ids], device=next(model.parameters()).device)
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        weights = torch.arange(1, ids.shape[1] + 1, dtype=torch.float32)
        weights = weights / weights.sum()
        found.append([(each[0].float().cpu() * weights[:, None]).sum(0).numpy() for each in states])
    return np.array(found).transpose(1, 0, 2)


def score_cell_by_cell(pivot, target):
    """Weakly aligned pairs per layer; vectors [layers, pairs, width]."""
    found = []
    for a, b in zip(pivot, target, strict=True):
        n = len(a)
        cells = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                cells[i, j] = np.dot(a[i], b[j]) / (np.linalg.norm(a[i]) * np.linalg.norm(b[j]))
        found.append(
            sum(
                cells[i, i] > max(np.delete(cells[i], i).max(), np.delete(cells[:, i], i).max())
                for i in range(n)
            )
        )
    return found


def products(pivot, target):
    """Dot products and squared lengths: the input of the scoring after the forward passes."""
    dots = torch.stack([alignment.dots(a, b) for a, b in zip(pivot, target, strict=True)])
    lengths = [torch.stack([alignment.squares(each) for each in side]) for side in (pivot, target)]
    return dots, *lengths


def score_at_once(dots, pivot_squares, target_squares):
    """The same scores by this package's functions, for all layers at once."""
    similarity = alignment.cosines(dots, pivot_squares, target_squares)
    return scoring.score_similarity(similarity, margins=False).hits.sum(dim=1).tolist()


def run_mexa(model, probe, corpus):
    """MEXA's procedure from text to scores: language -> aligned pairs per layer."""
    pivot = vectors_one_by_one(
        model, probe.tokenizer, [p for p, _ in next(iter(corpus.pairs.values()))]
    )
    found = {}
    for language, pairs in corpus.pairs.items():
        target = vectors_one_by_one(model, probe.tokenizer, [t for _, t in pairs])
        found[language] = score_cell_by_cell(pivot, target)
    return found


def read_options():
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=subjects.SHAPES, default="100M")
    parser.add_argument("--languages", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out")
    return parser.parse_args()


def main():
    options = read_options()
    torch.set_num_threads(options.threads)
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    tokenizer = subjects.tokenizer_of(corpus)
    model = subjects.llama(options.shape, getattr(torch, options.dtype), options.device)
    config = ProbeConfig(corpus=corpus, metrics=("mexa",), diagnostics=())
    probe, results = Probe(config, tokenizer), {}
    calls = {
        "this probe": lambda: results.update(ours=probe.run(model)),
        "MEXA's way": lambda: results.update(theirs=run_mexa(model, probe, corpus)),
    }
    seconds = subjects.paired(calls, options.rounds, options.device)
    ours = {
        language: [mask.bit_count() for mask in masks]
        for language, masks in results["ours"].metrics["mexa"].hits.items()
    }
    cells = [(a, b) for k in ours for a, b in zip(ours[k], results["theirs"][k], strict=True)]
    differ = sum(abs(a - b) for a, b in cells)
    end, low, high = subjects.ratios(seconds, "this probe")["MEXA's way"]

    rng = torch.Generator().manual_seed(0)
    shape = (len(cells) // options.languages, 100, model.config.hidden_size)
    a, b = (torch.randn(shape, generator=rng) for _ in range(2))
    summed = products(a, b)
    scores = subjects.paired(
        {
            "scoring": lambda: results.update(one=score_at_once(*summed)),
            "products and scoring": lambda: results.update(two=score_at_once(*products(a, b))),
            "cell by cell": lambda: results.update(three=score_cell_by_cell(a.numpy(), b.numpy())),
        },
        max(5, options.rounds),
    )
    assert results["one"] == results["two"] == results["three"]
    medians = {name: statistics.median(times) for name, times in (seconds | scores).items()}
    size = f"one language, {shape[0]} layers of {shape[2]}"
    rows = {"end to end": ("this probe", "MEXA's way", end, low, high)}
    for name in ("scoring", "products and scoring"):
        ratio = subjects.ratios(scores, name)["cell by cell"]
        rows[f"{name}, {size}"] = (name, "cell by cell", *ratio)
    lines = [
        subjects.heading("A probe against MEXA's way", options.device),
        f"Llama {options.shape} shape, {options.dtype}, {options.languages} languages x 100 pairs,"
        f" {options.rounds} paired rounds.\n",
        "| what | this package, s | MEXA's way, s | ratio, median | minimum | maximum |",
        "|---|---|---|---|---|---|",
    ]
    for what, (one, other, *ratio) in rows.items():
        middle = f"{medians[one]:.4f} | {medians[other]:.3f}"
        lines.append(f"| {what} | {middle} | {' | '.join(f'{each:.1f}' for each in ratio)} |")
    total = sum(count for _, count in cells)
    lines.append(f"\nAligned pairs that differ: {differ} of {total} in {len(cells)} layers.")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
