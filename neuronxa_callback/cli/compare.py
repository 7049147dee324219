"""``neuronxa compare``: the differences between two reports, and which of them are drops."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from neuronxa_callback.history.comparison import (
    compare_languages,
    note_on_sentences,
    note_on_tokens,
)
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show import tables, terminal


class ReportDiff:
    """The differences between two reports on the same sentences.

    Args:
        before: The earlier report, or that of another model.
        after: The report to judge.
        metric: The metric to compare; None for the first one of ``before``.
        at_n: Compare the expected scores among this number of pairs; None for those as measured.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric.
    """

    def __init__(
        self,
        before: AlignmentReport,
        after: AlignmentReport,
        metric: str | None,
        at_n: int | None = None,
    ) -> None:
        self.before, self.after = before, after
        self.metric = metric or next(iter(before.metrics))
        self.at_n = at_n
        self.changes = compare_languages(before, after, self.metric, at_n)
        notes = (note_on_tokens(before, after), note_on_sentences(before, after))
        self.note = "; ".join(filter(None, notes)) or None

    @property
    def drops(self) -> dict[str, str]:
        """Language -> a message, for each language whose score is significantly lower or NaN."""
        drops = {}
        for language, change in self.changes.items():
            if math.isnan(self.after.score(self.metric, language)):
                drops[language] = f"{language}: the new score is NaN, which counts as a drop"
            elif change.significant and change.difference < 0:
                drops[language] = f"{language}: significantly lower, by {-change.difference:.3f}"
        return drops

    @property
    def model_differences(self) -> dict[str, tuple[Any, Any]]:
        """Properties that differ between the models, such as dtype: key -> (before, after)."""
        before, after = (
            report.fingerprint.get("model", {}) for report in (self.before, self.after)
        )
        values = {
            key: (before.get(key), after.get(key)) for key in dict.fromkeys((*before, *after))
        }
        return {key: pair for key, pair in values.items() if pair[0] != pair[1]}

    def to_json(self) -> str:
        """One line of JSON; NaN becomes ``null``."""
        fields = {
            "metric": self.metric,
            "at_n": self.at_n,
            "languages": {
                language: {**_null_for_nan(asdict(change)), "significant": change.significant}
                for language, change in self.changes.items()
            },
            "dropped": list(self.drops),
            "model": self.model_differences,
            "note": self.note,
        }
        return json.dumps(fields, allow_nan=False)

    def show(self) -> None:
        """Print the table of languages, the differences between the models, and the note."""
        terminal.show(
            tables.differences(self.before, self.after, self.metric, self.changes, self.at_n)
        )
        for key, (before, after) in self.model_differences.items():
            terminal.show_text(f"the models differ in {key}: {before} before, {after} after")
        if self.note:
            terminal.show_text(f"note: {self.note}")


def _null_for_nan(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}
