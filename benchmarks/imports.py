"""What ``import neuronxa_callback`` adds to ``from transformers import Trainer``.

    python benchmarks/imports.py [--rounds 7] [--out F]

Both in processes of their own, in turn.
"""

import argparse
import statistics
import subprocess
import sys

import subjects

BARE = "from transformers import Trainer"
OURS = f"{BARE}\nimport neuronxa_callback"
USED = f"{BARE}\nfrom neuronxa_callback import NeuronXACallback"
CODES = {"Trainer": BARE, "and the package": OURS, "and NeuronXACallback": USED}


def measure(rounds):
    """Code -> seconds per round."""

    def run(code):
        subprocess.run([sys.executable, "-c", code], check=True)

    acts = {name: lambda code=code: run(code) for name, code in CODES.items()}
    return subjects.paired(acts, rounds)


def added(found, name):
    """Median over rounds of the seconds beyond the bare import."""
    return statistics.median(a - b for a, b in zip(found[name], found["Trainer"], strict=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out")
    options = parser.parse_args()
    found = measure(options.rounds)
    lines = [
        subjects.heading("Import time"),
        f"{options.rounds} rounds in turn.\n",
        "| what | median seconds | added |",
        "|---|---|---|",
    ]
    for name, each in found.items():
        more = "" if name == "Trainer" else f"{added(found, name):.3f}"
        lines.append(f"| {name} | {statistics.median(each):.3f} | {more} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
