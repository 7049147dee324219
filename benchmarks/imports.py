"""Measures the time that ``import neuronxa_callback`` adds to ``from transformers import Trainer``.

    python benchmarks/imports.py [--rounds 7] [--out F]

Each round is a new process that times the imports after the import of the Trainer.
"""

import argparse
import statistics
import subprocess
import sys

import subjects

CODE = """
import time
began = time.perf_counter()
from transformers import Trainer
bare = time.perf_counter()
import neuronxa_callback
package = time.perf_counter()
from neuronxa_callback import NeuronXACallback
print(bare - began, package - bare, time.perf_counter() - bare)
"""
NAMES = ("from transformers import Trainer", "and the package", "and NeuronXACallback")


def measure(rounds):
    """Import -> seconds per round that it adds to the imports before it."""
    by_import = {name: [] for name in NAMES}
    for _ in range(rounds):
        done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True)
        # The last line; libraries may print before it.
        for name, seconds in zip(NAMES, done.stdout.split()[-3:], strict=True):
            by_import[name].append(float(seconds))
    return by_import


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out")
    options = parser.parse_args()
    lines = [
        subjects.heading("Import time"),
        f"{options.rounds} rounds. The second and third row are seconds added to the rows above.\n",
        "| import | median seconds | minimum | maximum |",
        "|---|---|---|---|",
    ]
    for name, seconds in measure(options.rounds).items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        lines.append(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
