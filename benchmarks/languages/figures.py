"""The tables and the picture of docs/language_pairs.md and docs/perturbation.md, from reports.

neuronxa score MODEL --pivot all --metrics nasca --json > pairs.json
neuronxa score MODEL --perturb case,punctuation,typos --metrics nasca --json > perturbed.json
python benchmarks/languages/figures.py pairs.json perturbed.json [--picture languages.png]
"""

import argparse
import sys
from itertools import combinations
from pathlib import Path

from neuronxa_callback import AlignmentReport
from neuronxa_callback.show.charts import write_picture


def shown(values):
    """A score or a difference, and its interval."""
    middle, low, high = (f"{value:.3f}" for value in values)
    return f"{middle} [{low}, {high}]"


def pair_lines(report, metric, most=5):
    """The nearest and the farthest pairs of languages, and those of each language beside English.

    A row of a language: its score with the pivot, and its nearest language other than the pivot.
    """
    table = report.language_pairs[metric]
    ranked = sorted(combinations(table.languages, 2), key=lambda pair: -table.score(*pair))
    for one, other in (*ranked[:most], *ranked[-most:]):
        cell = shown((table.score(one, other), *table.interval(one, other)))
        yield f"| {one} | {other} | {cell} |"
    yield ""
    pivot = report.pivot
    for name in sorted(report.languages, key=lambda each: -table.score(pivot, each)):
        others = [each for each in report.languages if each != name]
        nearest = max(others, key=lambda each: table.score(name, each))
        cells = [
            shown((table.score(name, each), *table.interval(name, each)))
            for each in (pivot, nearest)
        ]
        yield f"| {name} | {cells[0]} | {nearest} | {cells[1]} |"


def perturbation_lines(report, metric):
    """One row per language, one column per perturbation."""
    found = {kind: each[metric] for kind, each in report.diagnostics["perturbed"].items()}
    yield f"| language | clean | {' | '.join(found)} |"
    for name in (*report.languages, "mean"):
        entries = [each[name] for each in found.values()]
        score = report.score(metric, None if name == "mean" else name)
        cells = [
            "n/a" if each is None else shown((each["difference"], each["low"], each["high"]))
            for each in entries
        ]
        yield f"| {name} | {score:.3f} | {' | '.join(cells)} |"


def main():
    options = argparse.ArgumentParser()
    options.add_argument("reports", nargs="+", type=Path)
    options.add_argument("--metric", default="nasca")
    options.add_argument("--picture", type=Path)
    given = options.parse_args()
    for path in given.reports:
        report = AlignmentReport.from_json(path.read_text(encoding="utf-8"))
        if given.metric in report.language_pairs:
            print("\n".join(pair_lines(report, given.metric)))
            if given.picture is not None:
                write_picture([report], given.picture, given.metric, language_pairs=True)
        if "perturbed" in report.diagnostics:
            print("\n".join(perturbation_lines(report, given.metric)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
