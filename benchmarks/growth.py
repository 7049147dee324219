"""Measures how the time of a probe grows with languages, pairs, layers and width.

    python benchmarks/growth.py [--rounds 3] [--out F]

Each row also shows the time of the bare forward pass of the same microbatches.
"""

import argparse
import statistics

import forward
import subjects

KIND = "nasca, navca"
SWEEPS = {
    "languages": [{"languages": k} for k in (4, 12, 40, 100, 200)],
    "pairs": [{"pairs": k} for k in (50, 100, 300, 1000)],
    "layers": [{"num_hidden_layers": k} for k in (4, 8, 16, 32)],
    "width": [{"intermediate_size": k} for k in (176, 704, 2816, 11264)],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--out")
    options = parser.parse_args()
    tokenizer = subjects.tokenizer_of(forward.ParallelCorpus.builtin("dev", subjects.TWELVE[:6]))
    lines = [
        subjects.heading("How a probe's time grows"),
        f"Tiny Llama (hidden 64, 4 layers, 176 neurons a layer), 4 languages x 100 pairs unless"
        f" varied; {KIND}, no diagnostics; medians of {options.rounds} rounds.\n",
        "| varied | value | bare forward, s | probe, s | difference, s |",
        "|---|---|---|---|---|",
    ]
    for sweep in options.sweeps:
        for change in SWEEPS[sweep]:
            size = {"languages": 4, "pairs": 100} | change
            corpus = subjects.many(size.pop("languages"), size.pop("pairs"))
            model = subjects.llama("tiny", **size)
            seconds, _ = forward.measure(model, tokenizer, corpus, [KIND], options.rounds)
            bare, probe = (statistics.median(seconds[name]) for name in (forward.FLOOR, KIND))
            row = f"| {sweep} | {next(iter(change.values()))} | {bare:.3f} | {probe:.3f} |"
            pairs = zip(seconds[KIND], seconds[forward.FLOOR], strict=True)
            lines.append(f"{row} {statistics.median(a - b for a, b in pairs):.3f} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
