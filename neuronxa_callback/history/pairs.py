"""The pairs of a report one by one: how many layers align each, and what changed since another."""

from collections.abc import Sequence
from dataclasses import dataclass

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import Layer


@dataclass(frozen=True)
class Rival:
    """The sentence that wins in most layers in which a pair is not aligned."""

    side: str
    """``"pivot"`` or ``"target"``."""
    pair: int
    """Its pair, from 0."""
    layers: int
    """The number of layers in which it wins."""


@dataclass(frozen=True)
class PairRow:
    """One pair of one language, or of all languages together."""

    pair: int
    """Its number, from 0."""
    aligned: int
    """The number of layers (of all languages, if it is of all) that align it."""
    layers: int
    """The number of layers that are known: all but those with NaN."""
    rival: Rival | None = None
    """None where no layer fails, if the report has no rivals, or for all languages."""


@dataclass(frozen=True)
class PairChange:
    """One pair in two reports."""

    before: PairRow
    after: PairRow
    gained: tuple[Layer, ...]
    """The layers that align it only after."""
    lost: tuple[Layer, ...]
    """The layers that align it only before."""


def pair_rows(
    report: AlignmentReport, metric: str | None = None, language: str | None = None
) -> list[PairRow]:
    """The pairs of a report, those that the fewest layers align first.

    Args:
        report: A report; rivals are known if it has ``diagnostics["rivals"]``.
        metric: One of its metrics; None for the first.
        language: One of its languages; None for all of them together, which must have the same
            pivot sentences.

    Raises:
        ConfigError: If the report does not have the metric or the language, or if the languages
            have pivot sentences of their own.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.history.pairs import pair_rows

        worst = pair_rows(read_reports("runs/mine")[-1], "nasca", "deu_Latn")[0]
        print(worst.pair, worst.aligned, worst.layers)
    """
    metric = _known_metric(report, metric)
    masks = [
        mask
        for name in _languages(report, language)
        for mask in report.metrics[metric].hits[name]
        if mask is not None
    ]
    rows = [
        PairRow(
            pair=i,
            aligned=sum(mask >> i & 1 for mask in masks),
            layers=len(masks),
            rival=None if language is None else _rival(report, metric, language, i),
        )
        for i in range(report.n_pairs)
    ]
    return sorted(rows, key=lambda row: (row.aligned, row.pair))


def pair_changes(
    before: AlignmentReport, after: AlignmentReport, metric: str | None, language: str
) -> list[PairChange]:
    """The pairs of a language in two reports, those that lost the most layers first.

    Raises:
        FingerprintError: If the two do not measure the same thing.
        ConfigError: If they do not have the metric or the language, or have other layers.
    """
    check_same_fingerprint(before.fingerprint, after.fingerprint, ("definition",))
    metric = _known_metric(before, metric)
    layers = before.layers(metric)
    if layers != after.layers(metric):
        raise ConfigError(
            f"pairs are compared layer by layer, so both models must have the same layers, got"
            f" {len(layers)} and {len(after.layers(metric))}; compare their scores with"
            " `neuronxa compare`"
        )
    rows = [
        {row.pair: row for row in pair_rows(report, metric, language)} for report in (before, after)
    ]
    masks = [report.metrics[metric].hits[language] for report in (before, after)]
    known = [
        (layer, one, other)
        for layer, one, other in zip(layers, *masks, strict=True)
        if one is not None and other is not None
    ]
    changes = [
        PairChange(
            before=rows[0][i],
            after=rows[1][i],
            gained=tuple(layer for layer, one, other in known if ~one & other & 1 << i),
            lost=tuple(layer for layer, one, other in known if one & ~other & 1 << i),
        )
        for i in range(before.n_pairs)
    ]
    return sorted(changes, key=lambda each: (len(each.gained) - len(each.lost), each.before.pair))


def _known_metric(report: AlignmentReport, metric: str | None) -> str:
    if metric is not None and metric not in report.metrics:
        raise ConfigError(unknown("metric", metric, report.metrics))
    return metric or next(iter(report.metrics))


def _languages(report: AlignmentReport, language: str | None) -> Sequence[str]:
    if language is not None:
        if language not in report.languages:
            raise ConfigError(unknown("language", language, report.languages))
        return (language,)
    if not report.fingerprint.get("definition", {}).get("shared_pivot", False):
        raise ConfigError(
            "the languages of this report have pivot sentences of their own, so their pairs cannot"
            " be listed together; name one with --language"
        )
    return report.languages


def _rival(report: AlignmentReport, metric: str, language: str, i: int) -> Rival | None:
    found = report.diagnostics.get("rivals", {}).get(metric, {}).get(language)
    if found is None or found["pair"][i] < 0:
        return None
    side = "pivot" if found["by_pivot"][i] else "target"
    return Rival(side, found["pair"][i], found["layers"][i])
