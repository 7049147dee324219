"""Simulated runs whose scores move as those of a real model do; see ``stopping.py``.

A run is 50 probes of 20 languages, 100 pairs and 12 layers. A verdict (pair, layer) is 1 where a
sum of normal numbers is above a threshold: one number of the pivot sentence, one of the pair in its
language, one of its own. All of them are kept from probe to probe but for a step, so that
neighbouring probes agree in most verdicts and changes add up like a random walk. That, an effect of
each checkpoint that all pairs of a language share, and hubs (one pair per language that blocks many
others) were measured on a real model: in Gemma-3-270M neighbouring checkpoints agree in 92 to 99 %
of the verdicts.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special

from neuronxa_callback.metrics.variance import signs

PAIRS, LAYERS, LANGUAGES, PROBES = 100, 12, 20, 50
SHARES = (0.20, 0.30)
"""Shares of the variance that lie in the pivot sentence and in the pair of a language."""


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
SEEN = {
    "agree 92 %": Noise(0.9690, 0.020),
    "agree 95 %, hubs": Noise(0.9877, 0.015, hub=1.2),
}
HELD_OUT = {
    "99 %, with jumps to 88 %": Noise(0.9995, 0.010, jump=0.9298),
    "97 %, hubs and jumps to 88 %": Noise(0.9956, 0.010, hub=1.0, jump=0.9298),
}
NOISE = TUNED | SEEN | HELD_OUT


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
    return 0.3 + 0.008 * np.arange(PROBES), 0


def noise_of(name, runs=10):
    """Standard errors of a change over 1 and 20 probes: (macro-mean, one language) each."""
    rng = np.random.default_rng(0)
    h = np.stack([run(rng, np.full(21, 0.5), NOISE[name])[:, :, 0] / LAYERS for _ in range(runs)])
    return [
        (x[:, later] - x[:, 0]).std(axis=1, ddof=1).mean() / PAIRS**0.5
        for later in (1, 20)
        for x in (h.mean(axis=2), h[:, :, 0])
    ]


def _step(rng, part, variance, kept):
    """Move numbers of this variance by one probe, in place: correlated by ``kept``."""
    part *= np.float32(kept)
    part += _normal(rng, (1 - kept**2) * variance, part.shape)


def _normal(rng, variance, shape):
    numbers = rng.standard_normal(shape, dtype=np.float32)
    numbers *= np.float32(variance**0.5)
    return numbers
