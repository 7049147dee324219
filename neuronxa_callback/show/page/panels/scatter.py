"""Alignment against downstream scores, one dot per language, as the page draws it."""

from collections.abc import Iterable
from typing import Any

from neuronxa_callback.corpus.languages import script
from neuronxa_callback.history.agreement import Agreement, Agreements
from neuronxa_callback.scores import without_nan


def scatter_entry(agreements: Agreements, codes: Iterable[str]) -> dict[str, Any]:
    """The correlations over languages as plain numbers, and what was left out, in words.

    Args:
        agreements: As ``history.agreement.correlate`` returns them.
        codes: All languages of the page.
    """
    return {
        "latin": [code for code in codes if script(code) == "Latn"],
        "notes": list(agreements.notes),
        "found": [without_nan(_plain(each)) for each in agreements.over_languages],
        "in_groups": [
            {"group": group, **without_nan(_plain(each))}
            for group, found in agreements.in_groups.items()
            for each in found
        ],
    }


def _plain(each: Agreement) -> dict[str, Any]:
    pearson = each.pearson
    return {
        "run": each.model,
        "task": each.task,
        "metric": each.metric,
        "step": each.step,
        "languages": each.languages,
        "alignment": each.alignment,
        "downstream": each.downstream,
        "n": pearson.n,
        "r": pearson.r,
        "low": pearson.low,
        "high": pearson.high,
        "p": pearson.p,
        "spearman": each.spearman.r,
        "partial": {name: found.r for name, found in each.partial.items()},
    }
