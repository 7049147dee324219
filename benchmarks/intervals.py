"""How often 95 % intervals hold the truth: on a real model's matrices, and in simulation.

    python benchmarks/intervals.py [--draws 1000] [--out benchmarks/intervals_<date>.md]

``gemma_blocks.npz`` has the blocks (which pair blocks which, 0 or 1) of 400 FLORES-200 pairs in 18
layers of Gemma-3-270M (Q4_K_M, dequantised; NAS, pivot English), bit-packed: ``base`` in five
languages, and ten changed models in three of them, as differences from ``base``. It has no text.

The truth is the expected score among n of the 400 pairs, by exact rarefaction. A subset of n of N
pairs varies less than one of an endless source: every variance is multiplied by 1 - n / N. In the
simulation the truth is the mean of all draws.

Three intervals are compared: ``old`` (the spread of the pairs' own verdicts, as if pairs were
independent), ``jackknife`` (delete-one), and ``chosen`` (that of the package).
"""

import argparse
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
import torch

from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.blocking import count_blocks
from neuronxa_callback.metrics.variance import PairSums, Spread, signs, spread
from neuronxa_callback.scores import rarefied_share

DATA = Path(__file__).parent / "gemma_blocks.npz"
METHODS = ("old", "jackknife", "chosen")
CHANGES = {
    "int8": "rounded to int8",
    "norms": "weights of the norms times 1 + 2 % noise",
    "noise02": "noise of 2 % of its standard deviation in every matrix",
    "noise06": "noise of 6 % of its standard deviation in every matrix",
    "prune": "the smallest tenth of the weights set to 0",
    "sftA3": "3 steps on German and English captions",
    "sftA6": "6 steps of the same",
    "sftA9": "9 steps of the same",
    "sftB": "4 steps on English captions",
    "sftD": "8 steps on Hindi sentences",
}
"""What was done to the ten models."""
INSIDE = (0.05, 0.95)
"""Scores within which a cell counts."""
GOOD = (91, 99)
"""The coverage of a good cell, in per cent."""


def read_blocks(path=DATA):
    """(checkpoint, language) -> blocks [layers, pairs, pairs] of 0 and 1, fp32."""
    with np.load(path) as data:
        shape = (int(data["layers"]), int(data["pairs"]), int(data["pairs"]))
        bits = {tuple(key.split("_")): data[key] for key in data.files if "_" in key}
    found = {}
    for (point, name), packed in bits.items():
        both = packed if point == "base" else packed ^ bits["base", name]
        rows = np.unpackbits(both, axis=1, count=shape[1] ** 2, bitorder="little")
        found[point, name] = rows.reshape(shape).astype(bool)
    return found


def counts_of(blocks):
    """h, u and r [3, layers, pairs] of blocks [layers, pairs, pairs]."""
    blocks = blocks.astype(np.float32)
    sign = signs(blocks.shape[-1]).astype(np.float32)
    b, signed = blocks.sum(axis=-1), blocks @ sign
    one, two = (b == 1).astype(np.float32), (b == 2).astype(np.float32)
    weights = np.stack([one, two * signed, two, one * sign], axis=-1)
    sole, doubly_signed, doubly, sole_signed = np.moveaxis(blocks.swapaxes(1, 2) @ weights, -1, 0)
    return np.stack([b == 0, sole, doubly_signed - sign * doubly - sole_signed - one * signed])


def with_mean(counts):
    """Counts [3, rows, pairs] with their mean over rows as one more row."""
    return np.concatenate([counts, counts.mean(axis=1, keepdims=True)], axis=1)


def ends_of(counts, share, verdicts=None):
    """Method -> (low, high) of every row, for a level or (with ``verdicts``) for a change.

    share: What the finite population leaves of a variance.
    """
    h, u, r = counts
    n = h.shape[-1]
    mean, df = h.mean(axis=-1), np.full(len(h), n - 1.0)
    old = h.var(axis=-1, ddof=1) / n
    chosen = spread(PairSums(h, u, r))
    spreads = {
        "old": Spread(old * share, df),
        "jackknife": Spread((h - u).var(axis=-1, ddof=1) / n * share, df),
        "chosen": replace(chosen, variance=chosen.variance * share),
    }
    if verdicts is None:
        return {name: statistics.level_ends(mean, found, n) for name, found in spreads.items()}
    ends = {}
    for name, found in spreads.items():
        error = np.sqrt(found.variance)
        floor = np.where(mean == 0, 0, 1 / n) * (error == 0) if name == "old" else 1 / verdicts
        half = statistics.quantile(0.95, found.df) * np.maximum(error, floor)
        ends[name] = mean - half, mean + half
    return ends


class Coverage:
    """Counts how often the intervals of some cells hold their truths."""

    def __init__(self, labels, truth, counted):
        self.labels, self.truth, self.counted = labels, truth, counted
        self.held = {name: np.zeros(len(truth)) for name in METHODS}
        self.width = {name: np.zeros(len(truth)) for name in METHODS}
        self.hub, self.draws = np.zeros(len(truth)), 0

    def add(self, counts, share, verdicts=None):
        for name, (low, high) in ends_of(counts, share, verdicts).items():
            self.held[name] += (low <= self.truth + 1e-6) & (self.truth - 1e-6 <= high)
            self.width[name] += high - low
        self.hub += np.abs(counts[1]).max(axis=-1) > counts.shape[-1] / 5
        self.draws += 1

    def rows(self, title):
        """Table rows: one per kind of cell, those with a hub by themselves."""
        for kind in dict.fromkeys(self.labels):
            for hub in (False, True):
                cells = self.counted & (np.array(self.labels) == kind)
                cells &= (self.hub > 0.01 * self.draws) == hub
                if cells.any():
                    found = [100 * self.held[name][cells] / self.draws for name in METHODS]
                    width = [self.width[name][cells].mean() / self.draws for name in METHODS]
                    covered = [f"{x.mean():.1f} [{x.min():.1f}, {x.max():.1f}]" for x in found]
                    widths = " / ".join(f"{x:.3f}" for x in width)
                    bad = ((found[-1] < GOOD[0]) | (found[-1] > GOOD[1])).sum()
                    label = f"{title}{kind}{', hub' if hub else ''}"
                    yield f"| {label} | {cells.sum()} | {' | '.join(covered)} | {bad} | {widths} |"


def truth_of(blocks, n):
    """The expected score among n pairs, of every layer and their mean."""
    pairs = blocks.shape[-1]
    layers = [
        rarefied_share(np.bincount(b.astype(int)).tolist(), pairs, n) for b in blocks.sum(axis=-1)
    ]
    return np.array([*layers, np.mean(layers)])


def real(blocks, n, draws):
    """Title -> coverage in random subsets of n pairs: of the scores, and of each kind of change."""
    layers, pairs = next(iter(blocks.values())).shape[:2]
    spoken = sorted({name for _, name in blocks})
    changed = sorted({name for point, name in blocks if point != "base"})
    truth = {key: truth_of(each, n) for key, each in blocks.items()}
    found = {"score, ": _coverage(spoken, layers, truth, ("base",))}
    found |= {f"{point}, ": _coverage(changed, layers, truth, ("base", point)) for point in CHANGES}
    size = np.array([1] * layers + [layers]) * n
    verdicts = np.concatenate([size] * len(changed) + [size * len(changed)])
    rng = np.random.default_rng(7)
    for _ in range(draws):
        kept = rng.choice(pairs, n, replace=False)
        counts = {key: counts_of(each[:, kept[:, None], kept]) for key, each in blocks.items()}
        base = np.stack([counts["base", name] for name in spoken])
        found["score, "].add(_cells(base), 1 - n / pairs)
        for point in CHANGES:
            moved = np.stack([counts[point, x] - counts["base", x] for x in changed])
            found[f"{point}, "].add(_cells(moved), 1 - n / pairs, verdicts)
    return found


def _coverage(names, layers, truth, points):
    """The cells of a score (one point) or of a change (two): each language, then their mean."""
    truths = np.array([[truth[point, name] for name in names] for point in points])
    truths = np.concatenate([truths, truths.mean(axis=1, keepdims=True)], axis=1)
    truths = truths.reshape(len(points), -1)
    counted = ((truths > INSIDE[0]) & (truths < INSIDE[1])).all(axis=0)
    labels = (["layer"] * layers + ["mean over layers"]) * len(names)
    labels += ["macro, layer"] * layers + ["macro-mean"]
    return Coverage(labels, truths[-1] - truths[0] if len(points) > 1 else truths[0], counted)


def _cells(counts):
    """Counts [languages, 3, layers, pairs] as [3, cells, pairs], in the order of ``_coverage``."""
    return np.concatenate([with_mean(each) for each in (*counts, counts.mean(axis=0))], axis=1)


def simulated(hubs, signal, n, draws, layers=6):
    """Coverage of levels in an endless source; ``hubs`` says how much sentences raise others."""
    rng = np.random.default_rng([int(10 * hubs), int(10 * signal)])
    index, drawn = np.arange(n), []
    for _ in range(draws):
        cosines = 0.7 * rng.normal(size=(n, n)) + 0.51**0.5 * rng.normal(size=(layers, n, n))
        cosines += hubs * rng.exponential(size=n) + hubs * rng.exponential(size=n)[:, None]
        cosines[:, index, index] += signal + 0.8 * rng.normal(size=n)
        found = count_blocks(torch.tensor(cosines))
        parts = (found.blockers == 0, found.sole_blocks, found.second_differences)
        drawn.append(with_mean(np.stack([part.double().numpy() for part in parts])))
    truth = np.mean([each[0].mean(axis=-1) for each in drawn], axis=0)
    counted = (truth > INSIDE[0]) & (truth < INSIDE[1])
    coverage = Coverage(["layer"] * layers + ["mean over layers"], truth, counted)
    for each in drawn:
        coverage.add(each, 1.0)
    return coverage


def report(draws):
    blocks = read_blocks()
    head = f"| cells | | {' | '.join(METHODS)} | outside {GOOD[0]}-{GOOD[1]} | width of each |"
    rule = "|---|---|" + "---|" * (len(METHODS) + 2)
    lines = ["", "Coverage in per cent: mean [least, most] over cells with scores of .05 to .95."]
    lines += ["Hub cells: one pair alone blocks a fifth of the pairs in 1 % of the draws or more."]
    lines += [f"Outside: cells of `chosen` with a coverage outside {GOOD[0]} to {GOOD[1]} %."]
    lines += ["", "Changes, each from the model as it is:", ""]
    lines += [f"- {point}: {words}" for point, words in CHANGES.items()]
    for n in (100, 50):
        lines += ["", f"## Gemma-3-270M, Q4_K_M, dequantised: {n} of 400 pairs", "", head, rule]
        for title, found in real(blocks, n, draws).items():
            lines += found.rows(title)
    lines += ["", "## Simulated cosines, 100 pairs", "", head, rule]
    for hubs in (0.0, 0.3, 0.6):
        for signal in (2.5, 3.5, 4.5):
            found = simulated(hubs, signal, 100, max(10, draws // 2))
            lines += found.rows(f"hubs {hubs}, signal {signal}, ")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = [
        "# Intervals",
        "",
        f"`python benchmarks/intervals.py --draws {options.draws}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}.",
    ]
    text = "\n".join([*head, *report(options.draws)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
