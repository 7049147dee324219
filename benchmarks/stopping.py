"""How often stop rules stop a run that they should not, and miss what they should see.

    python benchmarks/stopping.py [--runs 150] [--other-runs 60] [--out FILE]

A run is one of ``simulated.py``: its true score is flat, rises once by 0.005, falls once, or rises
steadily. The rules are those of the package, applied after every probe. Their levels were chosen on
``TUNED`` with ``SEEN`` in view; the noise in ``HELD_OUT`` was not used for that.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy

from neuronxa_callback import StopRule
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Point
from neuronxa_callback.show import probe_line
from simulated import (
    HELD_OUT,
    LANGUAGES,
    LAYERS,
    NOISE,
    PAIRS,
    PROBES,
    SEEN,
    TUNED,
    falling,
    flat,
    noise_of,
    rising,
    run,
    stepping,
)

DROP, PATIENCE, GAIN = 0.10, 5, 0.02
PLACES = ("macro-mean", "one language")


class Called:
    """Applied like a rule: whether the terminal's line calls a change of the mean significant."""

    def reason(self, history):
        return "significant" if probe_line.changes(history, "nasca").startswith("sig") else None


class BestMisses:
    """Applied like a rule: whether, after the run, the interval of its best probe misses the truth.

    corrected: Take ``History.best_interval`` rather than the interval that the probe's report has.
    """

    def __init__(self, truth, corrected):
        self.truth, self.corrected = truth, corrected

    def reason(self, history):
        if len(history.points) < PROBES:
            return None
        best = history.best("nasca")
        low, high = (
            history.best_interval("nasca") if self.corrected else best.interval("nasca", None)
        )
        return None if low <= self.truth[best.number] <= high else "misses"


@dataclass(frozen=True)
class Question:
    """How often something is found in a run."""

    words: str
    rule: object
    """With a method ``reason``, or a function from the true scores to that."""
    limits: tuple[str | None, str | None]
    """For the macro-mean and for one language, in per cent; None: not asked."""
    probes: int | None = None
    """How many probes from the event on count; None for the whole run."""


@dataclass(frozen=True)
class Scene:
    """A kind of run."""

    truth: Callable
    """rng -> (true scores [probes], the probe at which something happens)."""
    questions: tuple[Question, ...]
    common: bool = True
    """Whether checkpoints have effects of their own."""


def stops(rules, counts, layers):
    """Rule -> the probe at which it first stops the run; None for never.

    counts: [probes, 3, pairs].

    One row per pair: with a shared pivot, the mean over languages is the mean of their sums.
    """
    history, found = History(), dict.fromkeys(rules)
    for number, rows in enumerate(counts):
        known = {"nasca": {"mean": rows}}
        history.points.append(Point(number, number, PAIRS, True, {"nasca": layers}, known))
        for rule, stopped in found.items():
            if stopped is None and rule.reason(history) is not None:
                found[rule] = number
    return found


FEW, MOST, CALLED = ("<= 5", "<= 5"), (">= 80", ">= 80"), "called significant in the terminal"


def selected(truth):
    return BestMisses(truth, corrected=True)


def unselected(truth):
    return BestMisses(truth, corrected=False)


def scenes():
    """The kinds of runs, and what is asked of each."""
    collapse, plateau = StopRule.collapse(DROP), StopRule.plateau(PATIENCE, GAIN)
    flats = (
        Question("flat, target 0.03 above it: stopped", StopRule.target(0.53), FEW),
        Question("flat, target 0.10 below it: stopped", StopRule.target(0.40), MOST),
        Question("flat: stopped by collapse(0.10)", collapse, FEW),
        Question("flat: stopped by plateau(5, 0.02) within 10 probes", plateau, MOST, 11),
        Question(f"flat: {CALLED} at any of 50 probes", Called(), ("<= 5", None)),
        Question("flat: the best probe outside of its report's interval", unselected, ("", "")),
        Question("flat: the best probe outside of `best_interval`", selected, FEW),
    )
    step = f"0.005 higher from the second probe on, no effects of checkpoints: {CALLED}"
    fall = "falls by 0.15: stopped by collapse(0.10) within"
    falls = (
        Question(f"{fall} 2 probes", collapse, (">= 95", ">= 80"), 2),
        Question(f"{fall} 10 probes", collapse, (">= 95", ">= 95"), 10),
    )
    words = "falls by 0.20: stopped by collapse(0.10) within 2 probes"
    large = Question(words, collapse, (">= 95", ">= 95"), 2)
    half = Question("falls by 0.05: stopped by collapse(0.10)", collapse, FEW)
    small = f"falls by 0.03: {CALLED} within 2 probes"
    rises = (
        Question("rises by 0.04 in 5 probes: stopped by plateau(5, 0.02)", plateau, FEW),
        Question("rises: the best probe outside of `best_interval`", selected, FEW),
    )
    return (
        Scene(flat, flats),
        Scene(stepping, (Question(step, Called(), FEW),), common=False),
        Scene(falling(1.5 * DROP), falls),
        Scene(falling(0.5 * DROP), (half,)),
        Scene(falling(0.03), (Question(small, Called(), (">= 80", None), 2),)),
        Scene(rising, rises),
        Scene(falling(2 * DROP), (large,)),
    )


def shares(runs, scene, noise, seed):
    """(place, words, limit) -> share of the runs of a scene."""
    rng = np.random.default_rng(seed)
    noise = noise if scene.common else replace(noise, common=0.0)
    caught = {
        (place, each.words, each.limits[k]): 0
        for k, place in enumerate(PLACES)
        for each in scene.questions
        if each.limits[k] is not None
    }
    ends = [each.probes for each in scene.questions]
    for _ in range(runs):
        truth, when = scene.truth(rng)
        last = PROBES if None in ends else when + max(ends)
        counts = run(rng, truth[:last], noise)
        rows = counts.sum(axis=1), counts[:, 0]
        for k, place in enumerate(PLACES):
            asked = {
                each: each.rule if hasattr(each.rule, "reason") else each.rule(truth)
                for each in scene.questions
                if each.limits[k] is not None
            }
            found = stops(asked.values(), rows[k], LAYERS * (LANGUAGES, 1)[k])
            for each, rule in asked.items():
                at = found[rule]
                counted = at is not None and (
                    each.probes is None or when <= at < when + each.probes
                )
                caught[place, each.words, each.limits[k]] += counted
    return {key: count / runs for key, count in caught.items()}


def table(runs, columns, seed):
    """(place, words, limit) -> one share of runs per column of noise.

    runs: Their number, or one number per column.
    """
    cells = {}
    numbers = [runs] * len(columns) if isinstance(runs, int) else runs
    for column, number_of_runs in zip(columns, numbers, strict=True):
        for number, scene in enumerate(scenes()):
            stream = [seed, number, *column.encode()]
            for key, share in shares(number_of_runs, scene, NOISE[column], stream).items():
                cells.setdefault(key, []).append(share)
    return cells


def report(runs, other_runs, seed):
    columns = list(NOISE)
    lines = ["", "Per cent of runs. Columns: the noise between neighbouring probes. The rules were"]
    lines += [f"tuned on the first {len(TUNED)}, with the next {len(SEEN)} in view; the last"]
    lines += [f"{len(HELD_OUT)} were held out."]
    for each in (runs, other_runs):
        errors = [f"{(p * (100 - p) / each) ** 0.5:.1f} at {p} %" for p in (5, 80, 95)]
        lines += [f"One standard error of a cell of {each} runs, in points: {', '.join(errors)}."]
    numbers = [runs if column in TUNED else other_runs for column in columns]
    cells = table(numbers, columns, seed)
    for place in PLACES:
        asked = {key[1:]: row for key, row in cells.items() if key[0] == place}
        lines += _rows(f"Rules on the {place}".replace("the one", "one"), columns, asked)
    lines += ["", "## Size of the noise", "", "Standard error of a paired change.", ""]
    lines += [
        "| noise | macro-mean, 1 probe | one language, 1 | macro-mean, 20 | one language, 20 |"
    ]
    lines += ["|---|---|---|---|---|"]
    for name in columns:
        lines.append(f"| {name} | " + " | ".join(f"{x:.4f}" for x in noise_of(name)) + " |")
    return lines


def _rows(title, columns, cells):
    lines = ["", f"## {title}", ""]
    lines.append("| run | limit, % | " + " | ".join(columns) + " |")
    lines.append("|---|---|" + "---|" * len(columns))
    for (words, limit), row in cells.items():
        lines.append(f"| {words} | {limit} | " + " | ".join(f"{100 * c:.1f}" for c in row) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=150)
    parser.add_argument("--other-runs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = [
        "# Stop rules",
        "",
        f"`python benchmarks/stopping.py --runs {options.runs} --other-runs "
        f"{options.other_runs} --seed {options.seed}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}. "
        f"{options.runs} runs per cell, {options.other_runs} after the first {len(TUNED)} columns: "
        f"{PROBES} probes, {LANGUAGES} languages, {PAIRS} pairs, "
        f"{LAYERS} layers.",
    ]
    text = "\n".join([*head, *report(options.runs, options.other_runs, options.seed)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
