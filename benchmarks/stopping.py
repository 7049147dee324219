"""How often stop rules stop a run that they should not, and miss what they should see.

    python benchmarks/stopping.py [--runs 300] [--out benchmarks/stopping_<date>.md]

A run is 50 probes of 20 languages, 100 pairs and 12 layers; its true score is flat, rises once by
0.005, falls once, or rises steadily. A verdict (pair, layer) is 1 where a sum of normal numbers is
above a threshold: one number of the pivot sentence, one of the pair in its language, one of its
own. All of them are kept from probe to probe but for a step, so that neighbouring probes agree in
most verdicts and changes add up like a random walk. That, an effect of each checkpoint that all
pairs of a language share, and hubs (one pair per language that blocks many others) were measured on
a real model: in Gemma-3-270M neighbouring checkpoints agree in 92 to 99 % of the verdicts.

The rules are those of the package, applied after every probe. Their levels were chosen on
``TUNED``; the noise in ``HELD_OUT`` was not used for that.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
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
DROP, ABOVE, PATIENCE, GAIN = 0.10, 0.03, 5, 0.02
PLACES = ("macro-mean", "one language")


@dataclass(frozen=True)
class Noise:
    """How the verdicts of a run move from probe to probe."""

    kept: float
    """Correlation of a verdict's numbers between neighbouring probes."""
    common: float
    """Standard deviation of the effect that all pairs of a language share at one probe."""
    hub: float = 0.0
    """Strength of the hub of each language."""
    jump: float = 0.0
    """The correlation at every tenth probe, if it is another one."""


TUNED = {
    "agree 99 %": Noise(0.9995, 0.005),
    "agree 97 %": Noise(0.9956, 0.010),
    "agree 95 %": Noise(0.9877, 0.015),
    "agree 97 %, hubs": Noise(0.9956, 0.010, hub=1.2),
}
HELD_OUT = {
    "agree 92 %": Noise(0.9690, 0.020),
    "agree 95 %, hubs": Noise(0.9877, 0.015, hub=1.2),
    "99 %, with jumps to 88 %": Noise(0.9995, 0.010, jump=0.9298),
}
NOISE = TUNED | HELD_OUT


def run(rng, truth, noise):
    """h, u and r [probes, languages, 3, pairs] of one run with a true score per probe."""
    pivot, pair = SHARES
    variances = (pivot, pair, 1 - pivot - pair)
    shapes = ((1, 1, PAIRS), (LANGUAGES, 1, PAIRS), (LANGUAGES, LAYERS, PAIRS))
    parts = [_normal(rng, *each) for each in zip(variances, shapes, strict=True)]
    hubs = _normal(rng, 1.0, shapes[-1]) if noise.hub else None
    found = np.zeros((len(truth), LANGUAGES, 3, PAIRS), dtype=np.int32)
    eps = signs(PAIRS)
    for probe, edge in enumerate(edges(truth, noise.hub)):
        if probe:
            kept = noise.jump if noise.jump and probe % 10 == 5 else noise.kept
            for part, variance in zip(parts, variances, strict=True):
                _step(rng, part, variance, kept)
            if hubs is not None:
                _step(rng, hubs, 1.0, kept)
        shift = np.float32(edge) + _normal(rng, noise.common**2, (LANGUAGES, 1, 1))
        strength = parts[2] + (parts[0] + parts[1] + shift)
        own = strength > 0
        if hubs is not None:
            blocked = own & (hubs + strength < noise.hub - 1)
            blocked[..., 0] = False
            own &= ~blocked
            # Pair 0 of every language is the hub: it alone blocks the pairs that it blocks.
            found[probe, :, 1, 0] = blocked.sum(axis=(1, 2))
            found[probe, :, 2] = -eps[0] * blocked.sum(axis=1)
            found[probe, :, 2, 0] = -(blocked * eps).sum(axis=(1, 2))
        found[probe, :, 0] = own.sum(axis=1)
    return found


def edges(truth, hub):
    """The mean strength of a verdict that gives each true score, found on a grid."""
    if not hub:
        return special.ndtri(truth)
    grid, strength = np.linspace(-4, 4, 801)[:, None], np.linspace(0, 8, 1601)
    density = np.exp(-((strength - grid) ** 2) / 2) / (2 * np.pi) ** 0.5
    share = (density * special.ndtr(strength - (hub - 1))).sum(axis=1) * (strength[1] - strength[0])
    return np.interp(truth, share, grid[:, 0])


class Called:
    """Applied like a rule: whether the terminal's line calls a change of the mean significant."""

    def reason(self, history):
        return "significant" if terminal.changes(history, "nasca").startswith("sig") else None


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


def flat(rng):
    return np.full(PROBES, 0.5), 0


def stepping(rng):
    return np.where(np.arange(PROBES) < 1, 0.5, 0.505), 1


def falling(size):
    def truth_of(rng):
        when = int(rng.integers(3, PROBES - 10))
        return np.where(np.arange(PROBES) < when, 0.55, 0.55 - size), when

    return truth_of


def rising(rng):
    return 0.3 + 2 * GAIN / PATIENCE * np.arange(PROBES), 0


def scenes():
    """The kinds of runs, and what is asked of each."""
    collapse, plateau = StopRule.collapse(DROP), StopRule.plateau(PATIENCE, GAIN)
    few, most = ("<= 5", "<= 5"), (">= 80", ">= 80")
    called = "called significant in the terminal"
    return (
        Scene(
            flat,
            (
                Question("flat, target 0.03 above it: stopped", StopRule.target(0.53), few),
                Question("flat, target 0.10 below it: stopped", StopRule.target(0.40), most),
                Question("flat: stopped by collapse(0.10)", collapse, few),
                Question("flat: stopped by plateau(5, 0.02) within 10 probes", plateau, most, 11),
                Question(f"flat: {called} at any of 50 probes", Called(), ("<= 5", None)),
                Question(
                    "flat: the best probe outside of its report's interval",
                    lambda truth: BestMisses(truth, corrected=False),
                    ("", ""),
                ),
                Question(
                    "flat: the best probe outside of `best_interval`",
                    lambda truth: BestMisses(truth, corrected=True),
                    few,
                ),
            ),
        ),
        Scene(
            stepping,
            (
                Question(
                    f"0.005 higher from the second probe on, no effects of checkpoints: {called}",
                    Called(),
                    few,
                ),
            ),
            common=False,
        ),
        Scene(
            falling(1.5 * DROP),
            (
                Question(
                    "falls by 0.15: stopped by collapse(0.10) within 2 probes",
                    collapse,
                    (">= 95", ">= 80"),
                    2,
                ),
                Question(
                    "falls by 0.15: stopped by collapse(0.10) within 10 probes",
                    collapse,
                    (">= 95", ">= 95"),
                    10,
                ),
            ),
        ),
        Scene(
            falling(0.5 * DROP),
            (Question("falls by 0.05: stopped by collapse(0.10)", collapse, few),),
        ),
        Scene(
            falling(0.03),
            (Question(f"falls by 0.03: {called} within 2 probes", Called(), (">= 80", None), 2),),
        ),
        Scene(
            rising,
            (
                Question("rises by 0.04 in 5 probes: stopped by plateau(5, 0.02)", plateau, few),
                Question(
                    "rises: the best probe outside of `best_interval`",
                    lambda truth: BestMisses(truth, corrected=True),
                    few,
                ),
            ),
        ),
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
    """(place, words, limit) -> one share of runs per column of noise."""
    cells = {}
    for column in columns:
        for number, scene in enumerate(scenes()):
            found = shares(runs, scene, NOISE[column], [seed, number, *column.encode()])
            for key, share in found.items():
                cells.setdefault(key, []).append(share)
    return cells


def noise_of(name, runs=10):
    """Standard errors of a change over 1 and 20 probes: (macro-mean, one language) each."""
    rng = np.random.default_rng(0)
    h = np.stack([run(rng, np.full(21, 0.5), NOISE[name])[:, :, 0] / LAYERS for _ in range(runs)])
    return [
        (x[:, later] - x[:, 0]).std(axis=1, ddof=1).mean() / PAIRS**0.5
        for later in (1, 20)
        for x in (h.mean(axis=2), h[:, :, 0])
    ]


def report(runs, seed):
    columns = list(NOISE)
    lines = ["", "Per cent of runs. Columns: the noise between neighbouring probes. The rules were"]
    lines += [f"tuned on the first {len(TUNED)}; {', '.join(HELD_OUT)} were held out."]
    lines += ["One standard error of a cell, in points:"]
    lines += ["; ".join(f"{(p * (100 - p) / runs) ** 0.5:.1f} at {p} %" for p in (5, 80, 95)) + "."]
    cells = table(runs, columns, seed)
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


def _step(rng, part, variance, kept):
    """Move numbers of this variance by one probe, in place: correlated by ``kept``."""
    part *= np.float32(kept)
    part += _normal(rng, (1 - kept**2) * variance, part.shape)


def _normal(rng, variance, shape):
    numbers = rng.standard_normal(shape, dtype=np.float32)
    numbers *= np.float32(variance**0.5)
    return numbers


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
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
    text = "\n".join([*head, *report(options.runs, options.seed)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
