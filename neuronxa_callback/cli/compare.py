"""``neuronxa compare``: what changed between two reports, what dropped, what else differs."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from neuronxa_callback import history
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import tables, terminal


class ReportDiff:
    """Two reports on the same sentences.

    Args:
        before: The earlier one, or that of another model.
        after: What is judged.
        metric: By which; None for the first of ``before``.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric.
    """

    def __init__(self, before: AlignmentReport, after: AlignmentReport, metric: str | None) -> None:
        self.before, self.after = before, after
        self.metric = metric or next(iter(before.metrics))
        self.changes = history.compare(before, after, self.metric)

    @property
    def dropped(self) -> dict[str, str]:
        """Language -> in words why it counts as a drop: significantly lower, or NaN."""
        found = {}
        for language, each in self.changes.items():
            if math.isnan(self.after.score(self.metric, language)):
                found[language] = f"{language}: the new score is NaN, which counts as a drop"
            elif each.significant and each.difference < 0:
                found[language] = f"{language}: significantly lower, by {-each.difference:.3f}"
        return found

    @property
    def differs(self) -> dict[str, tuple[Any, Any]]:
        """What of the models differs, such as dtype or attention: key -> before, after."""
        one, other = (each.fingerprint.get("model", {}) for each in (self.before, self.after))
        pairs = {key: (one.get(key), other.get(key)) for key in dict.fromkeys((*one, *other))}
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}

    def to_json(self) -> str:
        """All of it as one line of JSON; ``null`` for NaN."""
        rows = {
            name: {**_plain(asdict(each)), "significant": each.significant}
            for name, each in self.changes.items()
        }
        found = {
            "metric": self.metric,
            "languages": rows,
            "dropped": list(self.dropped),
            "model": self.differs,
        }
        return json.dumps(found, allow_nan=False)

    def show(self) -> None:
        """The table, and below it in what the models differ."""
        terminal.show(tables.differences(self.before, self.after, self.metric, self.changes))
        console = Console(soft_wrap=True, highlight=False)
        for key, (one, other) in self.differs.items():
            console.print(Text(f"the models differ in {key}: {one} before, {other} after"))


def _plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {key: each if math.isfinite(each) else None for key, each in numbers.items()}
