"""Two reports against each other: may they be compared, and what changed."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neuronxa_callback.errors import ConfigError, FingerprintError, unknown
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport

log = logging.getLogger(__name__)

PAIR_KEYS = ("n_pairs", "corpus", "digest")
"""The entries of a definition that tell which sentence pairs were measured."""


def compare(
    before: AlignmentReport, after: AlignmentReport, metric: str, at_n: int | None = None
) -> dict[str, Change]:
    """The change of each language between two reports, by a paired test.

    Args:
        before: One report, of any model.
        after: Another report of the same definition; differences are after minus before.
        metric: A metric that both reports have.
        at_n: Compare the expected scores among this number of pairs (``report.score_at``). Then the
            reports may have different pairs and numbers of pairs; the test is paired only if both
            have the same pairs. The standard errors are those of the scores at their own sizes.

    Returns:
        language -> its change. The p-values are adjusted by Holm over all languages. If the models
        tokenize the sentences differently, a warning is logged (``note_on_tokens``).

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric, or fewer than ``at_n`` pairs.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.history import compare

        first, *_, last = read_reports("runs/mine")
        changes = compare(first, last, "nasca")
        print([language for language, change in changes.items() if change.significant])
    """
    note = note_on_tokens(before, after)
    if note:
        log.warning(note)
    return compare_languages(before, after, metric, at_n)


def compare_languages(
    before: AlignmentReport, after: AlignmentReport, metric: str, at_n: int | None
) -> dict[str, Change]:
    """As ``compare``, without its warning."""
    ignored = () if at_n is None else PAIR_KEYS
    check_same_fingerprint(before.fingerprint, after.fingerprint, ("definition",), ignored)
    if metric not in after.metrics:
        raise ConfigError(unknown("metric", metric, after.metrics))
    points = Point.of(before), Point.of(after)
    if at_n is None:
        changes = {name: change(*points, metric, (name,)) for name in after.languages}
    else:
        changes = _changes_at(at_n, before, after, points, metric)
    adjusted = statistics.holm([each.p for each in changes.values()])
    return {
        name: replace(each, p=p) for (name, each), p in zip(changes.items(), adjusted, strict=True)
    }


def note_on_tokens(before: AlignmentReport, after: AlignmentReport) -> str | None:
    """One sentence if the models got other token ids for the same sentences; None if not."""
    one, other = (report.fingerprint.get("model", {}) for report in (before, after))
    if None in (one.get("token_ids"), other.get("token_ids")):
        return None
    if one["token_ids"] == other["token_ids"] or not _same_pairs(before, after):
        return None
    return (
        "the two models tokenize the same sentences differently, so a difference between their"
        " scores may come from the tokenizers as well as from the weights"
    )


def _same_pairs(before: AlignmentReport, after: AlignmentReport) -> bool:
    one, other = (report.fingerprint.get("definition", {}) for report in (before, after))
    return all(one.get(key) == other.get(key) for key in PAIR_KEYS)


def _changes_at(
    n: int,
    before: AlignmentReport,
    after: AlignmentReport,
    points: tuple[Point, Point],
    metric: str,
) -> dict[str, Change]:
    """The changes of each language between the expected scores among n pairs."""
    least = min(before.n_pairs, after.n_pairs)
    if not 2 <= n <= least:
        raise ConfigError(f"at_n must be from 2 to {least}, the pairs of both reports, got {n}")
    paired = _same_pairs(before, after)
    changes = {}
    for name in after.languages:
        sums = [point.sums(metric, (name,)) for point in points]
        parts = [sums[1] - sums[0]] if paired else sums
        difference = after.score_at(n, metric, name) - before.score_at(n, metric, name)
        changes[name] = statistics.change_of(difference, parts)
    return changes


def check_same_fingerprint(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    parts: Sequence[str],
    ignored: Sequence[str] = (),
) -> None:
    """Raise an error if two fingerprints differ in one of the given parts.

    The name of the corpus may differ if its digest does not, and ignored entries may differ.

    Raises:
        FingerprintError: The first entry that differs, and both values.
    """
    for part in parts:
        # Through JSON, since a tuple equals the list that a file holds for it.
        a, b = one.get(part, {}), json.loads(json.dumps(other.get(part, {})))
        for key in dict.fromkeys((*a, *b)):
            same_corpus = key == "corpus" and a.get("digest") == b.get("digest") is not None
            if key not in ignored and a.get(key) != b.get(key) and not same_corpus:
                raise FingerprintError(
                    f"reports of one curve must agree in {part}, but {key} is {a.get(key)!r} in one"
                    f" and {b.get(key)!r} in the other"
                )
