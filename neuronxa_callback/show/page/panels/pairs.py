"""Which layers align which pairs, at the first, the best and the last probe of a run.

Without the sentences, unless they are given: a corpus may be gated.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.page.packer import Packer

Sentences = Mapping[str, Sequence[tuple[str, str]]]
"""language -> its pairs: (pivot sentence, translation), in the order that was measured."""

Masks = dict[str, list[list[int | None]]]
"""metric -> [languages][layers] bit masks of aligned pairs."""
Rivals = dict[str, list[Mapping[str, Sequence[int]] | None]]
"""metric -> [languages] the entries of ``diagnostics["rivals"]``; None if there are none."""


class _Probe(NamedTuple):
    """The verdicts of one probe."""

    number: int
    masks: Masks
    rivals: Rivals


class PairHits:
    """Collects the verdicts of the first, the best (by its first metric) and the last report.

    Args:
        first: The first report; the others have its languages, metrics and pairs.
        steps: The number of reports.
    """

    def __init__(self, first: AlignmentReport, steps: int) -> None:
        self.languages, self.metrics, self.pairs = first.languages, [*first.metrics], first.n_pairs
        self.steps, self.seen, self.best_score = steps, 0, -math.inf
        self.kept: dict[str, _Probe] = {}
        """``"first"``, ``"best"``, ``"last"`` -> the probe."""

    def add(self, report: AlignmentReport) -> None:
        """Keep the verdicts of the next report if it is one of the three."""
        score = report.score(self.metrics[0])
        is_best = score > self.best_score
        names = {"first": self.seen == 0, "best": is_best, "last": self.seen == self.steps - 1}
        if any(names.values()):
            probe = _Probe(self.seen, self._masks(report), self._rivals(report))
            self.kept |= {name: probe for name, holds in names.items() if holds}
        self.best_score = score if is_best else self.best_score
        self.seen += 1

    def _masks(self, report: AlignmentReport) -> Masks:
        return {
            metric: [[*report.metrics[metric].hits[name]] for name in self.languages]
            for metric in self.metrics
        }

    def _rivals(self, report: AlignmentReport) -> Rivals:
        known = report.diagnostics.get("rivals", {})
        return {
            metric: [known.get(metric, {}).get(name) for name in self.languages]
            for metric in self.metrics
        }

    def entry(self, packer: Packer) -> dict[str, Any]:
        """The probes by name (an index of the run's steps each), and packed arrays per metric.

        ``hits`` [probes, languages, layers, bytes]: bit i of byte k is pair 8 k + i. ``known``
        [probes, languages, layers]: 0 for a layer with NaN. ``rivals`` [probes, languages, pairs,
        2]: 1 + 2 j for target j, 2 + 2 j for pivot j, 0 for none; and in how many layers it wins.
        """
        order = [name for name in ("first", "best", "last") if name in self.kept]
        probes = [self.kept[name] for name in order]
        return {
            "probes": [[name, probe.number] for name, probe in zip(order, probes, strict=True)],
            "metrics": {
                metric: {
                    "hits": packer.put(self._packed([each.masks[metric] for each in probes])),
                    "known": packer.put(_known([each.masks[metric] for each in probes])),
                    "rivals": packer.put(self._rivals_of([each.rivals[metric] for each in probes])),
                }
                for metric in self.metrics
            },
        }

    def _packed(self, probes: Sequence[list[list[int | None]]]) -> NDArray[np.uint8]:
        size = -(-self.pairs // 8)
        raw = [
            [[list((mask or 0).to_bytes(size, "little")) for mask in row] for row in masks]
            for masks in probes
        ]
        return np.array(raw, dtype="u1")

    def _rivals_of(
        self, probes: Sequence[list[Mapping[str, Sequence[int]] | None]]
    ) -> NDArray[np.uint32]:
        found = np.zeros((len(probes), len(self.languages), self.pairs, 2), "<u4")
        for p, languages in enumerate(probes):
            for k, rivals in enumerate(languages):
                if rivals is not None:
                    pair, side = np.array(rivals["pair"]), np.array(rivals["by_pivot"])
                    found[p, k, :, 0] = np.where(pair < 0, 0, 1 + 2 * pair + side)
                    found[p, k, :, 1] = rivals["layers"]
        return found


def sentences_entry(
    runs: Mapping[str, Sequence[AlignmentReport]], sentences: Mapping[str, Sentences]
) -> dict[str, Any]:
    """Run -> language -> its pairs of sentences, for the languages of the run."""
    return {
        name: {code: [*map(list, sentences[name][code])] for code in reports[0].languages}
        for name, reports in runs.items()
        if name in sentences
    }


def _known(probes: Sequence[list[list[int | None]]]) -> NDArray[np.uint8]:
    raw = [[[mask is not None for mask in row] for row in masks] for masks in probes]
    return np.array(raw, dtype="u1")
