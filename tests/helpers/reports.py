"""Reports and histories made from wanted scores or verdicts, without a model."""

import json
import math
from collections.abc import Mapping

import numpy as np

from neuronxa_callback import AlignmentReport
from neuronxa_callback.history.history import History
from neuronxa_callback.metrics.variance import PairSums
from neuronxa_callback.probe.results import interval_fields
from neuronxa_callback.scores import Hub, MetricScores

TWO = {"deu_Latn": 0.5, "swh_Latn": 0.3}


def make_report(
    step=0,
    scores=TWO,
    *,
    hits=None,
    n_pairs=100,
    layers=8,
    metrics=("nasca", "navca"),
    shared=True,
    definition=None,
    model=None,
    diagnostics=None,
    warnings=(),
    run=None,
    groups=None,
):
    """A report with wanted scores, the same for every metric.

    scores: language -> score, or one score per layer (then as many layers); NaN gives NaN layers.
    hits: language -> verdicts [layers, pairs] instead of scores; or metric -> language -> those.
    definition, model: entries that replace those of the fingerprint.
    """
    hits = (
        {name: _verdicts(each, layers, n_pairs) for name, each in scores.items()}
        if hits is None
        else hits
    )
    if not isinstance(next(iter(hits.values())), Mapping):
        hits = dict.fromkeys(metrics, hits)
    hits = {
        metric: {name: np.asarray(x, dtype=float) for name, x in known.items()}
        for metric, known in hits.items()
    }
    languages = tuple(next(iter(hits.values())))
    n = next(iter(hits.values()))[languages[0]].shape[1]
    return AlignmentReport(
        step=step,
        pivot="eng_Latn",
        languages=languages,
        n_pairs=n,
        metrics={metric: _scored(known, shared, groups or {}) for metric, known in hits.items()},
        fingerprint={
            "definition": {
                "corpus": "custom",
                "pivot": "eng_Latn",
                "shared_pivot": shared,
                "languages": list(languages),
                "n_pairs": n,
                "metrics": dict.fromkeys(hits, 1),
            }
            | (definition or {}),
            "model": {"class": "LlamaForCausalLM", "layers": layers, "tokenizer": "abc"}
            | (model or {}),
            "environment": {"torch": "2"},
        },
        diagnostics=diagnostics or {},
        warnings=tuple(warnings),
        run={"seconds": 1.5} if run is None else run,
        groups=groups or {},
    )


def _verdicts(score, layers, n):
    """The first pairs are aligned: two reports differ in as few pairs as can be."""
    curve = np.full(layers, score) if np.ndim(score) == 0 else np.asarray(score, dtype=float)
    found = (np.arange(n) < np.round(curve * n)[:, None]).astype(float)
    found[np.isnan(curve)] = math.nan
    return found


def _scored(hits, shared, groups):
    """Scores of verdicts as if pairs were independent: no pair blocks another alone."""
    counts = {
        name: tuple(None if math.isnan(k) else int(k) for k in each.sum(axis=1))
        for name, each in hits.items()
    }
    n_layers, n = next(iter(hits.values())).shape
    nothing = {name: None if None in row else (0,) * n for name, row in counts.items()}
    return MetricScores(
        layers=tuple(range(n_layers)),
        hits={name: tuple(mask_of(row) for row in each) for name, each in hits.items()},
        pivot_to_target=counts,
        target_to_pivot=counts,
        mutual=counts,
        sole_blocks=nothing,
        second_differences=nothing,
        blockers={
            name: None if None in row else (sum(row), *[0] * (n - 2), n_layers * n - sum(row))
            for name, row in counts.items()
        },
        hubs={
            name: tuple(None if k is None else Hub("target", 0, 0, 0) for k in row)
            for name, row in counts.items()
        },
        **interval_fields(
            {name: PairSums.of_hits(each) for name, each in hits.items()}, shared, groups
        ),
    )


def mask_of(row):
    """Verdicts of a layer as a whole number, bit i for pair i; None for NaN."""
    return None if np.isnan(row).any() else sum(1 << i for i, hit in enumerate(row.tolist()) if hit)


def history_of(*scores, **options):
    """A history of probes 0, 10, 20, ...: each score is a number or language -> number."""
    history = History()
    for k, each in enumerate(scores):
        by_language = each if isinstance(each, dict) else {"a": each, "b": each}
        history.append(make_report(10 * k, by_language, **options))
    return history


def resumed(history):
    """The history after its state has been saved as JSON and loaded."""
    return History.from_state(json.loads(json.dumps(history.state(), allow_nan=False)))


def noisy(step, score, languages=("a", "b", "c"), layers=6, n=40):
    """A report with random verdicts, fixed by step and score."""
    rng = np.random.default_rng([step, int(1000 * score)])
    hits = {name: rng.random((layers, n)) < score for name in languages}
    return make_report(step, hits=hits)
