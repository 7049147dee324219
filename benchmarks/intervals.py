"""Measures the coverage of the 95 % intervals and the power of paired tests.

    python benchmarks/intervals.py [--draws 2000] [--out benchmarks/intervals_<date>.md]

Hits are drawn from a model with a known true score. Pair i is aligned in layer l of language k if a
sum of normal numbers exceeds a threshold: one number of the pivot sentence (shared by all
languages), one of the pair in its language, and one of its own. So the layers of a pair are
correlated, and so are the languages through the pivot. The thresholds peak in the middle layers.

A second model draws cosines and scores them by the definition, so that pairs compete as in a probe;
its true score is the mean over all draws.
"""

import argparse
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import scipy
from scipy import special

from neuronxa_callback.metrics import statistics

PAIRS, LAYERS, LANGUAGES = 100, 12, 20
TRUTHS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
FLOOR = (0.01, 0.02)
MIXES = {
    "loose": (0.05, 0.10),
    "middle": (0.20, 0.30),
    "tight": (0.30, 0.50),
    "pivot": (0.70, 0.20),
}
"""Shares of the variance that lie in the pivot sentence and in the pair of a language."""
SIGNALS = (0.9, 1.7, 2.9)


def thresholds(truth, layers=LAYERS):
    """One per layer, so that the mean of their chances is the truth."""
    curve = 0.8 * np.cos(np.linspace(-np.pi, np.pi, layers))
    low, high = -9.0, 9.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if special.ndtr(curve + middle).mean() < truth else (low, middle)
    return curve + middle


def verdicts(rng, truth, mix, languages, shared=True, pairs=PAIRS):
    """One draw: hits [languages, layers, pairs]."""
    pivot, pair = mix
    common = rng.standard_normal((1 if shared else languages, 1, pairs), dtype=np.float32)
    own = rng.standard_normal((languages, 1, pairs), dtype=np.float32)
    rest = rng.standard_normal((languages, LAYERS, pairs), dtype=np.float32)
    latent = pivot**0.5 * common + pair**0.5 * own + (1 - pivot - pair) ** 0.5 * rest
    return (latent + thresholds(truth)[:, None] > 0).astype(np.float32)


def covered(draws, truth, mix, seed):
    """Share of draws whose interval holds the truth, per kind of score."""
    rng = np.random.default_rng(seed)
    by_layer = statistics.layer_intervals(PAIRS)
    found = {"layer": 0, "language": 0, "macro": 0, "macro, own pivots": 0}
    for _ in range(draws):
        hits = verdicts(rng, truth, mix, LANGUAGES)
        # Within one layer the pairs are independent: how layers go together does not matter.
        low, high = by_layer[rng.binomial(PAIRS, truth)]
        found["layer"] += low <= truth <= high
        low, high = statistics.mean_interval(hits[0])
        found["language"] += low <= truth <= high
        low, high = statistics.interval(hits.mean(axis=1), shared=True)
        found["macro"] += low <= truth <= high
        alone = verdicts(rng, truth, mix, LANGUAGES, shared=False)
        low, high = statistics.interval(alone.mean(axis=1), shared=False)
        found["macro, own pivots"] += low <= truth <= high
    return {kind: count / draws for kind, count in found.items()}


def judged(rng, signal, languages=3, layers=4, pairs=PAIRS):
    """One draw of cosines, judged by the definition: hits [languages, layers, pairs].

    How well pair i stands out is a number of its pivot sentence, its language and its layer.
    """
    shape = (languages, layers, pairs, pairs)
    cosine = rng.standard_normal(shape, dtype=np.float32)
    strength = (
        signal
        + 0.7 * rng.standard_normal((1, 1, pairs), dtype=np.float32)
        + 0.7 * rng.standard_normal((languages, 1, pairs), dtype=np.float32)
    )
    index = np.arange(pairs)
    cosine[..., index, index] += strength
    own = cosine[..., index, index].copy()
    cosine[..., index, index] = -np.inf
    return ((own > cosine.max(axis=-1)) & (own > cosine.max(axis=-2))).astype(np.float32)


def score_by_pairs(draws, signal, seed):
    """Pairs -> mean score of one and the same signal; more draws where there are fewer pairs."""
    rng = np.random.default_rng(seed)
    found = {}
    for pairs in (25, 100, 400, 1000):
        shape = {"languages": 1, "layers": 1, "pairs": pairs}
        times = max(10, draws * 25 // pairs)
        found[pairs] = float(np.mean([judged(rng, signal, **shape).mean() for _ in range(times)]))
    return found


def covered_by_cosines(draws, signal, seed):
    rng = np.random.default_rng(seed)
    by_layer = statistics.layer_intervals(PAIRS)
    scores, ends = [], []
    for _ in range(draws):
        hits = judged(rng, signal)
        scores.append((hits[0, 0].mean(), hits[0].mean(), hits.mean()))
        layer, language = by_layer[int(hits[0, 0].sum())], statistics.mean_interval(hits[0])
        ends.append((layer, language, statistics.interval(hits.mean(axis=1), shared=True)))
    truth = float(np.mean(scores))
    held = np.mean([[low <= truth <= high for low, high in each] for each in ends], axis=0)
    return truth, dict(zip(("layer", "language", "macro"), held.tolist(), strict=True))


def covered_with(pairs, draws, truth, mix, seed):
    """Share of draws whose interval of one language holds the truth, with few or many pairs."""
    rng = np.random.default_rng(seed)
    ends = (
        statistics.mean_interval(verdicts(rng, truth, mix, 1, pairs=pairs)[0]) for _ in range(draws)
    )
    return sum(low <= truth <= high for low, high in ends) / draws


def naive_coverage(draws, truth, mix, seed):
    """The same for intervals that are often seen: Wald's, with every pair x layer as a trial."""
    rng = np.random.default_rng(seed)
    held = 0
    for _ in range(draws):
        mean = float(verdicts(rng, truth, mix, 1).mean())
        half = 1.96 * (mean * (1 - mean) / (PAIRS * LAYERS)) ** 0.5
        held += abs(mean - truth) <= half
    return held / draws


def power(draws, shift, kept, seed, truth=0.5, mix=(0.30, 0.40)):
    """Two probes of one language: how often a change is found, paired and unpaired.

    ``kept`` is the share of the variance of a verdict's own number that stays between probes.
    Returns paired, unpaired, and how often the paired interval holds the shift.
    """
    rng = np.random.default_rng(seed)
    pivot, pair = mix
    rest = 1 - pivot - pair
    edges = thresholds(truth)[:, None], thresholds(truth + shift)[:, None]
    found = np.zeros(3)
    for _ in range(draws):
        common = rng.standard_normal((1, PAIRS)) * (pivot + pair) ** 0.5
        stay = rng.standard_normal((LAYERS, PAIRS)) * (rest * kept) ** 0.5
        x = []
        for edge in edges:
            fresh = rng.standard_normal((LAYERS, PAIRS)) * (rest * (1 - kept)) ** 0.5
            x.append(((common + stay + fresh + edge) > 0).mean(axis=0))
        change = statistics.paired_change([x[0]], [x[1]], shared=True)
        error = ((x[0].var(ddof=1) + x[1].var(ddof=1)) / PAIRS) ** 0.5
        unpaired = abs(x[1].mean() - x[0].mean()) > 1.972 * error
        found += change.significant, unpaired, change.low <= shift <= change.high
    return tuple((found / draws).tolist())


def seconds():
    """All intervals and tests of 100 languages x 100 layers x 2 metrics, two probes."""
    rng = np.random.default_rng(0)
    probes = [
        {name: (rng.random((100, PAIRS)) < 0.4).astype(float) for name in map(str, range(100))}
        for _ in range(4)
    ]
    began = time.perf_counter()
    statistics.layer_intervals.cache_clear()
    statistics.layer_intervals(PAIRS)
    for before, after in (probes[:2], probes[2:]):
        for hits in (before, after):
            for each in hits.values():
                statistics.mean_interval(each)
            statistics.macro_interval(hits, shared=True)
        changes = [
            statistics.paired_change(
                [statistics.shares(before[name])], [statistics.shares(after[name])], shared=True
            )
            for name in before
        ]
        statistics.holm([each.p for each in changes])
    return time.perf_counter() - began


def table(header, rows):
    """Lines of a Markdown table."""
    lines = [f"| {' | '.join(map(str, header))} |", "|" + "---|" * len(header)]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def per_cent(shares):
    return [f"{100 * share:.1f}" for share in shares]


def coverage(draws, seed, truths, first):
    """(correlation, kind of score) -> coverage at each true score."""
    found = {}
    for name, mix in MIXES.items():
        for k, truth in enumerate(truths, first):
            for kind, share in covered(draws, truth, mix, [seed, *name.encode(), k]).items():
                found.setdefault((name, kind), []).append(share)
    return found


def coverage_table(grid, truths):
    header = ("correlation", "score", *(f"{truth:.2f}" for truth in truths))
    return table(header, [(*names, *per_cent(row)) for names, row in grid.items()])


def report_grid(draws, seed):
    grid = coverage(draws, seed, TRUTHS, first=0)
    cells = [share for row in grid.values() for share in row]
    naive = [naive_coverage(draws, truth, MIXES["middle"], seed) for truth in TRUTHS]
    return [
        *("", "## Coverage of 95 % intervals", ""),
        f"{draws} draws of {PAIRS} pairs, {LAYERS} layers, {LANGUAGES} languages per cell.",
        *("", *coverage_table(grid, TRUTHS), ""),
        f"Mean {100 * np.mean(cells):.2f} %, least {100 * min(cells):.1f} %, most "
        f"{100 * max(cells):.1f} % over {len(cells)} cells.",
        *("", "## Coverage near the floor, outside of that grid", ""),
        *(*coverage_table(coverage(draws, seed, FLOOR, first=50), FLOOR), ""),
        "For comparison, Wald's interval with every pair x layer as a trial (one language, "
        f"middle): {', '.join(per_cent(naive))}.",
    ]


def report_pairs(draws, seed):
    by_pairs = {
        n: [covered_with(n, draws, t, MIXES["middle"], [seed, n, k]) for k, t in enumerate(TRUTHS)]
        for n in (12, 25, 50, 400)
    }
    cosines = [covered_by_cosines(draws, signal, [seed, k]) for k, signal in enumerate(SIGNALS)]
    scores = score_by_pairs(draws, SIGNALS[0], [seed, 99])
    return [
        *("", "## Coverage with other numbers of pairs (one language, middle)", ""),
        *table(
            ("pairs", *(f"{truth:.2f}" for truth in TRUTHS)),
            [(n, *per_cent(row)) for n, row in by_pairs.items()],
        ),
        *("", "## Coverage where cosines are drawn and judged", ""),
        *table(
            ("true score", "layer", "language", "macro"),
            [(f"{truth:.3f}", *per_cent(held.values())) for truth, held in cosines],
        ),
        *("", "## One signal, scored among more pairs", ""),
        *table(("pairs", *scores), [("score", *(f"{score:.3f}" for score in scores.values()))]),
    ]


def report_power(draws, seed):
    rows = [
        (f"{shift:.2f}", f"{kept:.1f}", *(f"{share:.3f}" for share in shares))
        for shift in (0.0, 0.05)
        for kept in (0.9, 0.5, 0.0)
        for shares in [power(draws, shift, kept, [seed, int(100 * shift), int(10 * kept)])]
    ]
    header = ("shift", "kept between probes", "paired", "unpaired", "interval holds the shift")
    return ["", "## Power of a paired test", "", *table(header, rows)]


def report(draws, seed):
    return [
        *report_grid(draws, seed),
        *report_pairs(draws, seed),
        *report_power(draws, seed),
        "",
        f"All intervals and tests of 100 languages x 100 layers x 2 metrics: {seconds():.2f} s",
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = [
        "# Intervals and paired tests",
        "",
        f"`python benchmarks/intervals.py --draws {options.draws} --seed {options.seed}`, "
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python "
        f"{platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}.",
    ]
    text = "\n".join([*head, *report(options.draws, options.seed)]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
