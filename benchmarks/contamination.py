"""Measures how fast training files are searched for the built-in sentences.

    python benchmarks/contamination.py [--megabytes 100] [--rounds 3] [--out F]

The figure is CPU time of one process in its fastest round.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import subjects
from neuronxa_callback import ParallelCorpus
from neuronxa_callback.corpus.contamination import contamination

LINE = "Some other text of no interest, line after line. Ein anderer Text. 别的文字。"
LINES = {"text": f"{LINE}\n", "jsonl": json.dumps({"text": LINE}, ensure_ascii=False) + "\n"}


def measure(path, rounds):
    """CPU seconds of the fastest round."""
    corpus, seconds = ParallelCorpus.builtin(), []
    for _ in range(rounds):
        began = time.process_time()
        assert contamination(corpus, [path]) == ()
        seconds.append(time.process_time() - began)
    return min(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    options = parser.parse_args()
    lines = [
        subjects.heading("Search of training files"),
        f"{options.megabytes} MB without a hit; best of {options.rounds} rounds.\n",
        "| file | MB per CPU second |",
        "|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind, line in LINES.items():
            data = line.encode()
            path = Path(folder) / f"training.{'txt' if kind == 'text' else kind}"
            path.write_bytes(data * (options.megabytes * 10**6 // len(data)))
            speed = path.stat().st_size / 1e6 / measure(path, options.rounds)
            lines.append(f"| {kind} | {speed:.0f} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
