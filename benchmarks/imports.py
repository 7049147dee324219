"""What ``import neuronxa_callback`` adds to ``from transformers import Trainer``.

    python benchmarks/imports.py [--rounds 7] [--out F]

Each round is a process of its own, which times what comes after the import of the Trainer.
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
    """Name -> seconds per round; what is added, but for the first."""
    found = {name: [] for name in NAMES}
    for _ in range(rounds):
        said = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True)
        # Its last line: others may speak before.
        for name, seconds in zip(NAMES, said.stdout.split()[-3:], strict=True):
            found[name].append(float(seconds))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out")
    options = parser.parse_args()
    lines = [
        subjects.heading("Import time"),
        f"{options.rounds} rounds; seconds added, but for the first.\n",
        "| what | median seconds | least | most |",
        "|---|---|---|---|",
    ]
    for name, each in measure(options.rounds).items():
        figures = (statistics.median(each), min(each), max(each))
        lines.append(f"| {name} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
