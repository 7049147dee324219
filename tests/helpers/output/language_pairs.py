"""Reports with a table of all pairs of languages, made from wanted scores."""

from dataclasses import replace
from itertools import combinations

from neuronxa_callback.language_pairs import LanguagePairs


def with_pairs(report, metrics, score=None):
    """The report with tables of some metrics.

    Two languages other than the pivot have the score ``score(one, other)``; by default, in each
    layer, the lower one of their scores with the pivot.
    """
    return replace(report, language_pairs={name: _table(report, name, score) for name in metrics})


def _table(report, metric, score):
    scores, n = report.metrics[metric], report.n_pairs
    names = (report.pivot, *report.languages)
    hits = {
        name: [None if mask is None else mask.bit_count() for mask in scores.hits[name]]
        for name in report.languages
    }

    def count(one, other, layer):
        if one == report.pivot:
            return hits[other][layer]
        if score is not None:
            return round(score(one, other) * n)
        both = hits[one][layer], hits[other][layer]
        return None if None in both else min(both)

    return LanguagePairs(
        languages=names,
        n_pairs=n,
        layers=scores.layers,
        counts=tuple(
            tuple(count(one, other, layer) for one, other in combinations(names, 2))
            for layer in range(len(scores.layers))
        ),
        intervals=tuple(
            scores.intervals[other] if one == report.pivot else (0.0, 1.0)
            for one, other in combinations(names, 2)
        ),
    )
