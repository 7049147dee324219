"""Two reports against each other: may they be compared, and what changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neuronxa_callback.errors import ConfigError, FingerprintError, unknown
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport


def compare(before: AlignmentReport, after: AlignmentReport, metric: str) -> dict[str, Change]:
    """The change of each language between two reports on the same pairs, by a paired test.

    Args:
        before: One report, of any model.
        after: Another report of the same definition; differences are after minus before.
        metric: A metric that both reports have.

    Returns:
        language -> its change. The p-values are adjusted by Holm over all languages.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.history import compare

        first, *_, last = read_reports("runs/mine")
        changes = compare(first, last, "nasca")
        print([language for language, change in changes.items() if change.significant])
    """
    check_same_fingerprint(before.fingerprint, after.fingerprint, ("definition",))
    if metric not in after.metrics:
        raise ConfigError(unknown("metric", metric, after.metrics))
    points = Point.of(before), Point.of(after)
    changes = {name: change(*points, metric, (name,)) for name in after.languages}
    adjusted = statistics.holm([each.p for each in changes.values()])
    return {
        name: replace(each, p=p) for (name, each), p in zip(changes.items(), adjusted, strict=True)
    }


def check_same_fingerprint(
    one: Mapping[str, Mapping[str, Any]],
    other: Mapping[str, Mapping[str, Any]],
    parts: Sequence[str],
) -> None:
    """Raise an error if two fingerprints differ in one of the given parts.

    The name of the corpus may differ if its digest does not.

    Raises:
        FingerprintError: The first entry that differs, and both values.
    """
    for part in parts:
        # Through JSON, since a tuple equals the list that a file holds for it.
        a, b = one.get(part, {}), json.loads(json.dumps(other.get(part, {})))
        for key in dict.fromkeys((*a, *b)):
            same_corpus = key == "corpus" and a.get("digest") == b.get("digest") is not None
            if a.get(key) != b.get(key) and not same_corpus:
                raise FingerprintError(
                    f"reports of one curve must agree in {part}, but {key} is {a.get(key)!r} in one"
                    f" and {b.get(key)!r} in the other"
                )
