"""Measures the error rates of stop rules: false stops and missed events in simulated runs.

    python benchmarks/stopping.py [--runs 1000] [--out benchmarks/stopping_<date>.md]

A run is 50 probes of 20 languages, 100 pairs and 12 layers; its true score is flat, falls once, or
rises. The number of aligned layers of a pair is binomial, with a probability per pair, language and
probe. The probability comes from a sum of normal numbers: two that are constant during the run (of
the pivot sentence, of the pair in its language) and the same two for each probe. The latter are the
noise, which may be correlated between probes (``AR(1)``), as for probes close in time.

The rules are those of the package, evaluated after every probe.
"""

import argparse
import platform
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
from scipy import special

from neuronxa_callback import StopRule
from neuronxa_callback.history.history import History
from neuronxa_callback.history.points import Point

PAIRS, LAYERS, LANGUAGES, PROBES = 100, 12, 20, 50
NOISE = {
    "calm": (0.20, 0.30, 0.02, 0.08),
    "middle": (0.20, 0.20, 0.05, 0.15),
    "wild": (0.15, 0.15, 0.10, 0.20),
}
"""Shares of the variance: pivot and pair for the whole run, pivot and pair at one probe."""
LINGER = (0.0, 0.7)
DROP, ABOVE, PATIENCE, GAIN = 0.10, 0.03, 5, 0.02
NAMES = tuple(f"l{k:02}" for k in range(LANGUAGES))


def run(rng, truth, noise, linger):
    """Aligned layers [probes, languages, pairs] of one run with a true score per probe."""
    pivot, pair, pivot_now, pair_now = noise
    probes = len(truth)
    stays = _normal(rng, pivot, 1, PAIRS) + _normal(rng, pair, LANGUAGES, PAIRS)
    now = _normal(rng, pivot_now, probes, 1, PAIRS) + _normal(
        rng, pair_now, probes, LANGUAGES, PAIRS
    )
    for k in range(1, probes):
        now[k] = linger * now[k - 1] + (1 - linger**2) ** 0.5 * now[k]
    edge = special.ndtri(np.asarray(truth))[:, None, None]
    chance = special.ndtr((stays + now + edge) / (1 - sum(noise)) ** 0.5)
    return rng.binomial(LAYERS, chance).astype(np.uint16)


def stops(rules, counts):
    """The probe at which each rule first stops the run; None for never."""
    history, found = History(), [None] * len(rules)
    for number, rows in enumerate(counts):
        known = {"nasca": dict(zip(NAMES, rows, strict=True))}
        history.points.append(Point(number, number, PAIRS, True, {"nasca": LAYERS}, known))
        for k, rule in enumerate(rules):
            if found[k] is None and rule.reason(history) is not None:
                found[k] = number
        if None not in found:
            break
    return found


def shares(runs, truth_of, rules, within, noise, linger, seed):
    """Share of runs that each rule stops.

    truth_of: rng -> (true scores [probes], the probe at which something happens).
    within: per rule how many probes from then on count; None for the whole run.
    """
    rng = np.random.default_rng(seed)
    caught = np.zeros(len(rules))
    for _ in range(runs):
        truth, when = truth_of(rng)
        found = stops(rules, run(rng, truth, noise, linger))
        for k, (at, probes) in enumerate(zip(found, within, strict=True)):
            caught[k] += at is not None and (probes is None or when <= at < when + probes)
    return (caught / runs).tolist()


def flat(rng):
    return np.full(PROBES, 0.5), 0


def falling(size):
    def truth_of(rng):
        when = int(rng.integers(3, PROBES - 10))
        return np.where(np.arange(PROBES) < when, 0.55, 0.55 - size), when

    return truth_of


def rising(rng):
    return 0.3 + 2 * GAIN / PATIENCE * np.arange(PROBES), 0


def scenarios(languages):
    """Per kind of run: true scores, ((description, rule, probes that count, limit), ...)."""
    target = StopRule.target(0.5 + ABOVE, languages=languages)
    collapse = StopRule.collapse(DROP, languages=languages)
    plateau = StopRule.plateau(PATIENCE, GAIN, languages=languages)
    flats = (
        ("flat, target 0.03 above it: stopped", target, None, "<= 5"),
        ("flat: stopped by collapse(0.10)", collapse, None, "<= 5"),
        ("flat: stopped by plateau(5, 0.02) within 10 probes", plateau, 2 * PATIENCE + 1, ">= 80"),
    )
    return (
        (flat, flats),
        (
            falling(1.5 * DROP),
            (("falls by 0.15: stopped by collapse(0.10) within 2 probes", collapse, 2, ">= 95"),),
        ),
        (
            falling(0.5 * DROP),
            (("falls by 0.05: stopped by collapse(0.10)", collapse, None, "<= 5"),),
        ),
        (
            rising,
            (("rises by 0.04 in 5 probes: stopped by plateau(5, 0.02)", plateau, None, "<= 5"),),
        ),
    )


def table(runs, places, columns, seed, jobs=1):
    """(place, words, limit) -> one share of runs per column of noise and linger."""
    tasks = [
        (runs, places, column, number, seed)
        for column in columns
        for number in range(len(scenarios(None)))
    ]
    if jobs == 1:
        done = list(map(cell, tasks))
    else:
        with ProcessPoolExecutor(jobs) as pool:
            done = list(pool.map(cell, tasks))
    cells = {}
    for found in done:
        for key, share in found.items():
            cells.setdefault(key, []).append(share)
    return cells


def cell(task):
    """One scenario at one noise, with its own random numbers: (place, words, limit) -> share."""
    runs, places, (name, linger), number, seed = task
    scenes = [scenarios(place)[number] for place in places]
    asked = [
        (place, *each)
        for place, (_, each_asked) in zip(places, scenes, strict=True)
        for each in each_asked
    ]
    place, words, rules, within, limits = zip(*asked, strict=True)
    stream = [seed, number, *name.encode(), int(10 * linger)]
    found = shares(runs, scenes[0][0], rules, within, NOISE[name], linger, stream)
    return dict(zip(zip(place, words, limits, strict=True), found, strict=True))


def noise_of(name, linger, runs=20):
    """Standard error of a paired change: of the macro-mean, and of one language."""
    rng = np.random.default_rng(0)
    x = np.stack([run(rng, np.full(6, 0.5), NOISE[name], linger) / LAYERS for _ in range(runs)])
    both = []
    for each in (x.mean(axis=2), x[:, :, 0]):
        both.append((each[:, 5] - each[:, 0]).std(axis=1, ddof=1).mean() / PAIRS**0.5)
    return both


def report(runs, seed, jobs):
    columns = [(name, linger) for name in NOISE for linger in LINGER]
    some = [(name, linger) for name, linger in columns if name == "middle"]
    lines = [
        "",
        "Per cent of runs. Columns: noise, and how much of it lingers from probe to probe.",
    ]
    cells = table(runs, (None, NAMES[0]), columns, seed, jobs)
    for place, title in ((None, "on the macro-mean"), (NAMES[0], "on one language")):
        lines += _rows(
            f"Rules {title}", columns, {k[1:]: v for k, v in cells.items() if k[0] == place}
        )
    few = max(1, runs // 10)
    cells = table(few, ("worst",), some, seed, jobs)
    title = f'Rules with languages="worst", {few} runs per cell; all languages do the same'
    lines += _rows(title, some, {key[1:]: row for key, row in cells.items()})
    lines += ["", "## What the noise amounts to", "", "Standard error of a paired change.", ""]
    lines += ["| noise, linger | macro-mean | one language |", "|---|---|---|"]
    for name, linger in columns:
        macro, one = noise_of(name, linger)
        lines.append(f"| {name}, {linger:g} | {macro:.4f} | {one:.4f} |")
    return lines


def _rows(title, columns, cells):
    lines = ["", f"## {title}", ""]
    lines.append("| run | asked | " + " | ".join(f"{n}, {p:g}" for n, p in columns) + " |")
    lines.append("|---|---|" + "---|" * len(columns))
    for (words, limit), row in cells.items():
        lines.append(f"| {words} | {limit} | " + " | ".join(f"{100 * c:.1f}" for c in row) + " |")
    return lines


def _normal(rng, variance, *shape):
    return np.float32(variance**0.5) * rng.standard_normal(shape, dtype=np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = [
        "# Stop rules",
        "",
        f"`python benchmarks/stopping.py --runs {options.runs} --seed {options.seed}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}. "
        f"{options.runs} runs per cell: {PROBES} probes, {LANGUAGES} languages, {PAIRS} pairs, "
        f"{LAYERS} layers.",
    ]
    text = "\n".join([*head, *report(options.runs, options.seed, options.jobs)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
