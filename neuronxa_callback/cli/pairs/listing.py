"""The listing of ``neuronxa pairs`` as a table, CSV or JSON. Numbers of pairs begin with 1.

Files and JSON have sentences only if they are asked for: a corpus may be gated.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from neuronxa_callback.cli.pairs.sides import Sides
from neuronxa_callback.corpus.rows import Pair
from neuronxa_callback.corpus.text import shorten
from neuronxa_callback.history.pairs import (
    PairChange,
    PairRow,
    Rival,
    pair_changes,
    pair_rows,
)
from neuronxa_callback.show import tables
from neuronxa_callback.show.long_table import plain_cell

MAX_TEXT = 120
"""Characters of a sentence in a table."""

Rows = Sequence[PairRow] | Sequence[PairChange]


@dataclass(frozen=True)
class Listing:
    """The pairs of one report, or of two.

    Args:
        sides: One or two reports, and their sentences.
        language: One of their languages; None for all (of one report).
        metric: One of their metrics.

    Raises:
        FingerprintError: If two reports do not measure the same thing.
        ConfigError: If they do not have the metric or the language.
    """

    sides: Sides
    language: str | None
    metric: str

    @property
    def rows(self) -> Rows:
        """The pairs in their order: the least aligned first, or those that lost the most."""
        if len(self.sides.reports) == 1:
            return pair_rows(self.sides.reports[0], self.metric, self.language)
        before, after = self.sides.reports
        assert self.language is not None
        return pair_changes(before, after, self.metric, self.language)

    @property
    def notes(self) -> list[str]:
        """Why sentences or rivals are not shown."""
        unknown = self.language and "rivals" not in self.sides.reports[-1].diagnostics
        hint = 'the report has no rivals; a run records them with neurons=["rivals"]'
        return [*filter(None, (self.sides.note, hint if unknown else ""))]

    def table(self, most: int) -> Table:
        """A table of the first pairs.

        Args:
            most: The most rows; 0 for all. Of two reports, pairs that changed come alone.
        """
        rows = [row for row in self.rows if isinstance(row, PairRow) or row.gained or row.lost]
        shown = rows[:most] if most else rows
        numbers = [*(str(report.step) for report in self.sides.reports)]
        where = f"{self.metric}, {self.language or 'all languages'}, step {' and '.join(numbers)}"
        kind = "pairs that changed" if len(numbers) > 1 else "pairs, the least aligned first"
        heads = ("before", "after", "gained", "lost") if len(numbers) > 1 else ("aligned",)
        caption = f"{len(shown)} of {len(rows)} {kind}; aligned: layers of all known layers"
        table = tables.numeric_table(where, caption, ("pair",), heads)
        texts = ["sentence"] if self.sides.pairs else []
        texts += ["translation"] if self.sides.pairs and self.language else []
        for name in (*texts, *(["wins where it fails"] if self.language else [])):
            table.add_column(name)
        for row in shown:
            table.add_row(*self._cells(row))
        return table

    def _cells(self, row: PairRow | PairChange) -> list[str | Text]:
        last = row if isinstance(row, PairRow) else row.after
        counts = [f"{last.aligned}/{last.layers}"]
        if isinstance(row, PairChange):
            before = f"{row.before.aligned}/{row.before.layers}"
            counts = [before, *counts, f"+{len(row.gained)}", f"-{len(row.lost)}"]
        cells: list[str | Text] = [str(last.pair + 1), *counts]
        if self.sides.pairs:
            texts = self._texts(last.pair)[: 2 if self.language else 1]
            cells += [Text(shorten(text, MAX_TEXT)) for text in texts]
        if self.language:
            cells.append(Text(self._winner(last.rival)))
        return cells

    def _winner(self, rival: Rival | None) -> str:
        if rival is None:
            return ""
        name = f"{rival.side} {rival.pair + 1} in {rival.layers}"
        text = self._text_of(rival)
        return name if text is None else f"{name}: {shorten(text, MAX_TEXT)}"

    def _texts(self, pair: int) -> Pair:
        """The sentences of a pair; that of the pivot alone matters for all languages."""
        assert self.sides.pairs is not None
        names = [self.language] if self.language else list(self.sides.pairs)
        return self.sides.pairs[names[0]][pair]

    def _text_of(self, rival: Rival) -> str | None:
        if not self.sides.pairs:
            return None
        return self._texts(rival.pair)[rival.side == "target"]

    def to_json(self, with_text: bool) -> str:
        """One line of JSON: the metric, language, steps and pairs."""
        plain = {
            "metric": self.metric,
            "language": self.language,
            "steps": [report.step for report in self.sides.reports],
            "n_pairs": self.sides.reports[0].n_pairs,
            "pairs": [self._plain(row, with_text) for row in self.rows],
        }
        return json.dumps(plain, ensure_ascii=False)

    def to_csv(self, with_text: bool) -> str:
        """CSV with one row per pair and the keys of the JSON as columns."""
        file = io.StringIO()
        rows = [self._plain(row, with_text) for row in self.rows]
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {
                name: " ".join(map(str, cell)) if isinstance(cell, list) else cell
                for name, cell in row.items()
            }
            writer.writerow({name: plain_cell(cell) for name, cell in cells.items()})
        return file.getvalue()

    def _plain(self, row: PairRow | PairChange, with_text: bool) -> dict[str, Any]:
        last = row if isinstance(row, PairRow) else row.after
        plain: dict[str, Any] = {"pair": last.pair + 1}
        if isinstance(row, PairChange):
            plain |= {"before": row.before.aligned, "gained": [*row.gained], "lost": [*row.lost]}
        plain |= {"aligned": last.aligned, "layers": last.layers}
        if self.language:
            plain |= _plain_rival(last.rival)
        if with_text:
            plain |= self._plain_texts(last)
        return plain

    def _plain_texts(self, row: PairRow) -> Mapping[str, str | None]:
        if not self.sides.pairs:
            return {}
        pivot, target = self._texts(row.pair)
        if not self.language:
            return {"sentence": pivot}
        rival = None if row.rival is None else self._text_of(row.rival)
        return {"sentence": pivot, "translation": target, "rival_text": rival}


def _plain_rival(rival: Rival | None) -> dict[str, Any]:
    if rival is None:
        return {"rival_side": None, "rival_pair": None, "rival_layers": None}
    return {
        "rival_side": rival.side,
        "rival_pair": rival.pair + 1,
        "rival_layers": rival.layers,
    }
