"""Two reports against each other: may they be compared, and what changed."""

import json
import logging
import math
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

DIGESTS = {
    "digest": "digest (of the measured sentences)",
    "shared_pivot": "shared_pivot (the same pivot sentences in all languages)",
    "modules_digest": "modules_digest (of the modules with neurons)",
    "tokenizer": "tokenizer (the digest of its vocabulary and rules)",
    "token_ids": "token_ids (the digest of the token ids)",
}
"""Entries that follow from others, and what they mean."""


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
    return _compare(before, after, metric, at_n, {name: (name,) for name in after.languages})


def compare_groups(
    before: AlignmentReport, after: AlignmentReport, metric: str, at_n: int | None = None
) -> dict[str, Change]:
    """The change of each group of languages of ``after``; p-values adjusted over groups by Holm.

    The groups of ``before`` do not matter. Arguments and errors are those of ``compare``.
    """
    return _compare(before, after, metric, at_n, after.groups)


def _compare(
    before: AlignmentReport,
    after: AlignmentReport,
    metric: str,
    at_n: int | None,
    groups: Mapping[str, tuple[str, ...]],
) -> dict[str, Change]:
    """Name -> change of the mean over its languages."""
    ignored = () if at_n is None else PAIR_KEYS
    check_same_fingerprint(before.fingerprint, after.fingerprint, ("definition",), ignored)
    if metric not in after.metrics:
        raise ConfigError(unknown("metric", metric, after.metrics))
    points = Point.of(before), Point.of(after)
    if at_n is None:
        changes = {name: change(*points, metric, members) for name, members in groups.items()}
    else:
        changes = _changes_at(at_n, before, after, points, metric, groups)
    adjusted = statistics.holm([each.p for each in changes.values()])
    return {
        name: replace(each, p=p) for (name, each), p in zip(changes.items(), adjusted, strict=True)
    }


def note_on_tokens(before: AlignmentReport, after: AlignmentReport) -> str | None:
    """One sentence if the models got other token ids for the same sentences; None if not."""
    one, other = (report.fingerprint.get("model", {}) for report in (before, after))
    digests = [report.fingerprint.get("definition", {}).get("digest") for report in (before, after)]
    # Other sentences have other token ids anyway.
    key = "token_ids" if digests[0] == digests[1] else "tokenizer"
    if one.get(key) == other.get(key) or None in (one.get(key), other.get(key)):
        return None
    return (
        "the two models tokenize their sentences differently, so a difference between their"
        " scores may come from the tokenizers as well as from the weights"
    )


def note_on_sentences(before: AlignmentReport, after: AlignmentReport) -> str | None:
    """One sentence with both mean sentence lengths if the corpora differ; None if not."""
    one, other = (report.fingerprint.get("definition", {}) for report in (before, after))
    if one.get("digest") == other.get("digest") or None in (one.get("digest"), other.get("digest")):
        return None
    sizes = " and ".join(
        f"{report.fingerprint['definition'].get('corpus')} ({_mean_length(report)})"
        for report in (before, after)
    )
    return (
        f"the reports have different sentences, {sizes}, and sentence length moves the level of"
        " scores: by about .10 between 10 and 27 tokens"
    )


def _mean_length(report: AlignmentReport) -> str:
    """Mean tokens per sentence of both sides over languages, in words."""
    counted = report.diagnostics.get("tokens", {}).get("languages", {}).values()
    if not counted:
        return "of unknown length"
    means = [
        sum(sides[side]["per_sentence"] for sides in counted) / len(counted)
        for side in ("pivot", "target")
    ]
    return f"{means[0]:.1f} tokens per pivot sentence and {means[1]:.1f} per translation on average"


def _changes_at(
    n: int,
    before: AlignmentReport,
    after: AlignmentReport,
    points: tuple[Point, Point],
    metric: str,
    groups: Mapping[str, tuple[str, ...]],
) -> dict[str, Change]:
    """The changes of each group of languages between the expected scores among n pairs."""
    least = min(before.n_pairs, after.n_pairs)
    if not 2 <= n <= least:
        raise ConfigError(f"at_n must be from 2 to {least}, the pairs of both reports, got {n}")
    one, other = (report.fingerprint.get("definition", {}) for report in (before, after))
    paired = all(one.get(key) == other.get(key) for key in PAIR_KEYS)
    changes = {}
    for name, members in groups.items():
        sums = [point.sums(metric, members) for point in points]
        parts = [sums[1] - sums[0]] if paired else sums
        scores = [
            [report.score_at(n, metric, language) for language in members]
            for report in (before, after)
        ]
        difference = (math.fsum(scores[1]) - math.fsum(scores[0])) / len(members)
        changes[name] = statistics.change_of(difference, parts, points[1].shared)
    return changes


def check_same_fingerprint(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    parts: Sequence[str],
    ignored: Sequence[str] = (),
    names: tuple[str, str] = ("in one", "in the other"),
) -> None:
    """Raise an error if two fingerprints differ in one of the given parts.

    The name of the corpus may differ if its digest does not, and ignored entries may differ.

    Raises:
        FingerprintError: Says in words which entries differ in the first part that differs.
    """
    for part in parts:
        # Through JSON, since a tuple equals the list that a file holds for it.
        a, b = one.get(part, {}), json.loads(json.dumps(other.get(part, {})))
        keys = [
            key
            for key in dict.fromkeys((*a, *b))
            if key not in ignored and a.get(key) != b.get(key)
        ]
        if a.get("digest") == b.get("digest") is not None:
            keys = [key for key in keys if key != "corpus"]
        # A digest tells nothing to a reader if the option that changed it is known.
        options = [key for key in keys if key not in DIGESTS]
        if keys:
            differences = [
                describe_difference(key, a.get(key), b.get(key), names) for key in options or keys
            ]
            raise FingerprintError(
                f"reports of one curve must agree in {part}, but {', and '.join(differences)}"
            )


def describe_difference(key: str, one: Any, other: Any, names: tuple[str, str]) -> str:
    """How an entry differs between two fingerprints, in words.

    >>> describe_difference("languages", ["deu"], ["deu", "swh"], ("so far", "now"))
    'languages has swh only now'
    >>> describe_difference("max_length", 64, 128, ("so far", "now"))
    'max_length is 64 so far and 128 now'
    """
    lists = [list(value) for value in (one, other) if isinstance(value, list | tuple | dict)]
    only = []
    if len(lists) == 2:
        for entries, others, name in zip(lists, reversed(lists), names, strict=True):
            extra = [str(entry) for entry in entries if entry not in others]
            only += [f"{', '.join(extra)} only {name}"] if extra else []
    if only:
        return f"{key} has {' and '.join(only)}"
    return f"{DIGESTS.get(key, key)} is {one!r} {names[0]} and {other!r} {names[1]}"
