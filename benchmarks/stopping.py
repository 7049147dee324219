"""How often stop rules stop a run that they should not, and miss what they should see.

    python benchmarks/stopping.py [--runs 1000] [--out benchmarks/stopping_<date>.md]

A run is 50 probes of 20 languages, 100 pairs and 12 layers; its true score is flat, falls once, or
rises. A verdict (pair, layer) is 1 where a sum of normal numbers is above a threshold: one number
of the pivot sentence, one of the pair in its language, one of its own. All of them are kept from
probe to probe but for a small step, so that neighbouring probes agree in most verdicts and changes
add up like a random walk. That, an effect of each checkpoint that all pairs of a language share,
and hubs (one pair per language that blocks many others) were measured on a real model: in
Gemma-3-270M neighbouring checkpoints agree in 95 to 99 % of the verdicts.

The rules are those of the package, applied after every probe.
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
from neuronxa_callback.metrics.variance import signs
from neuronxa_callback.show import terminal

PAIRS, LAYERS, LANGUAGES, PROBES = 100, 12, 20, 50
SHARES = (0.20, 0.30)
"""Shares of the variance that lie in the pivot sentence and in the pair of a language."""
NOISE = {
    "agree 99 %": (0.9995, 0.005, 0.0),
    "agree 97 %": (0.9956, 0.010, 0.0),
    "agree 95 %": (0.9877, 0.015, 0.0),
    "agree 97 %, hubs": (0.9956, 0.010, 1.2),
}
"""Correlation of a verdict's numbers between probes; standard deviation of the effect that all
pairs of a language share at one probe; strength of the hub of each language."""
DROP, ABOVE, PATIENCE, GAIN = 0.10, 0.03, 5, 0.02
NAMES = tuple(f"l{k:02}" for k in range(LANGUAGES))


def run(rng, truth, noise):
    """h, u and r [probes, languages, 3, pairs] of one run with a true score per probe."""
    kept, common, hub = noise
    pivot, pair = SHARES
    parts = [
        _normal(rng, pivot, 1, 1, PAIRS),
        _normal(rng, pair, LANGUAGES, 1, PAIRS),
        _normal(rng, 1 - pivot - pair, LANGUAGES, LAYERS, PAIRS),
    ]
    hubs = _normal(rng, 1.0, LANGUAGES, LAYERS, PAIRS)
    found = np.zeros((len(truth), LANGUAGES, 3, PAIRS), dtype=np.int32)
    for probe, edge in enumerate(edges(truth, hub)):
        if probe:
            parts = [_step(rng, part, kept) for part in parts]
            hubs = _step(rng, hubs, kept)
        strength = sum(parts) + np.float32(edge) + _normal(rng, common**2, LANGUAGES, 1, 1)
        own = strength > 0
        blocked = own & (hubs + strength < hub - 1) if hub else np.zeros_like(own)
        blocked[..., 0] = False
        found[probe, :, 0] = (own & ~blocked).sum(axis=1)
        # Pair 0 of every language is the hub: it alone blocks the pairs that it blocks.
        found[probe, :, 1, 0] = blocked.sum(axis=(1, 2))
        eps = signs(PAIRS)
        found[probe, :, 2] = -eps[0] * blocked.sum(axis=1)
        found[probe, :, 2, 0] = -(blocked * eps).sum(axis=(1, 2))
    return found


def edges(truth, hub):
    """The mean strength of a verdict that gives each true score, found on a grid."""
    if not hub:
        return special.ndtri(truth)
    grid, strength = np.linspace(-4, 4, 801)[:, None], np.linspace(0, 8, 1601)
    density = np.exp(-((strength - grid) ** 2) / 2) / (2 * np.pi) ** 0.5
    share = (density * special.ndtr(strength - (hub - 1))).sum(axis=1) * (strength[1] - strength[0])
    return np.interp(truth, share, grid[:, 0])


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


class CalledSignificant:
    """Applied like a rule: whether the terminal's line calls a change of the mean significant."""

    def reason(self, history):
        return "significant" if terminal.changes(history, "nasca").startswith("sig") else None


def shares(runs, truth_of, rules, within, noise, seed):
    """Share of runs that each rule stops.

    truth_of: rng -> (true scores [probes], the probe at which something happens).
    within: per rule how many probes from then on count; None for the whole run.
    """
    rng = np.random.default_rng(seed)
    caught = np.zeros(len(rules))
    for _ in range(runs):
        truth, when = truth_of(rng)
        found = stops(rules, run(rng, truth, noise))
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
    """What is asked: the truth, then (words, rule, probes that count, limit in per cent)."""
    target = StopRule.target(0.5 + ABOVE, languages=languages)
    collapse = StopRule.collapse(DROP, languages=languages)
    plateau = StopRule.plateau(PATIENCE, GAIN, languages=languages)
    flats = (
        ("flat, target 0.03 above it: stopped", target, None, "<= 5"),
        ("flat: stopped by collapse(0.10)", collapse, None, "<= 5"),
        ("flat: stopped by plateau(5, 0.02) within 10 probes", plateau, 2 * PATIENCE + 1, ">= 80"),
    )
    if languages is None:
        words = "flat: called significant in the terminal at any of 50 probes"
        flats = (*flats, (words, CalledSignificant(), None, "<= 5"))
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
    """(place, words, limit) -> one share of runs per column of noise."""
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
    """One scenario at one noise, with random numbers of its own: (place, words, limit) -> share."""
    runs, places, name, number, seed = task
    scenes = [scenarios(place)[number] for place in places]
    asked = [
        (place, *each)
        for place, (_, each_asked) in zip(places, scenes, strict=True)
        for each in each_asked
    ]
    place, words, rules, within, limits = zip(*asked, strict=True)
    stream = [seed, number, *name.encode()]
    found = shares(runs, scenes[0][0], rules, within, NOISE[name], stream)
    return dict(zip(zip(place, words, limits, strict=True), found, strict=True))


def noise_of(name, runs=20):
    """Standard errors of a change over 1 and 20 probes: (macro-mean, one language) each."""
    rng = np.random.default_rng(0)
    h = np.stack([run(rng, np.full(21, 0.5), NOISE[name])[:, :, 0] / LAYERS for _ in range(runs)])
    return [
        (x[:, later] - x[:, 0]).std(axis=1, ddof=1).mean() / PAIRS**0.5
        for later in (1, 20)
        for x in (h.mean(axis=2), h[:, :, 0])
    ]


def report(runs, seed, jobs):
    columns = list(NOISE)
    lines = ["", "Per cent of runs. Columns: the noise between neighbouring probes."]
    cells = table(runs, (None, NAMES[0]), columns, seed, jobs)
    for place, title in ((None, "on the macro-mean"), (NAMES[0], "on one language")):
        lines += _rows(
            f"Rules {title}", columns, {k[1:]: v for k, v in cells.items() if k[0] == place}
        )
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
    lines.append("| run | asked | " + " | ".join(columns) + " |")
    lines.append("|---|---|" + "---|" * len(columns))
    for (words, limit), row in cells.items():
        lines.append(f"| {words} | {limit} | " + " | ".join(f"{100 * c:.1f}" for c in row) + " |")
    return lines


def _step(rng, part, kept):
    """The same numbers one probe later: correlated by ``kept``, of the same variance."""
    variance = (1 - kept**2) * float(part.var())
    return np.float32(kept) * part + _normal(rng, variance, *part.shape)


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
