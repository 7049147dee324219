"""Downstream scores as a table by step and by language of a report."""

from collections.abc import Iterable, Mapping, Sequence

from neuronxa_callback.corpus.languages import resolve, script
from neuronxa_callback.errors import ConfigError, CorpusError
from neuronxa_callback.history.downstream import DownstreamScore
from neuronxa_callback.report import AlignmentReport

Table = Mapping[int | None, Mapping[str, float]]
"""step (None if the scores have none) -> language of the report -> score."""


def table_by_step(
    report: AlignmentReport, scores: Iterable[DownstreamScore]
) -> tuple[Table, tuple[str, ...]]:
    """The scores by step and language of the report, and the languages that it does not have."""
    table: dict[int | None, dict[str, float]] = {}
    left_out: dict[str, None] = {}
    for score in scores:
        try:
            language = resolve(score.language, report.languages)
        except CorpusError as error:
            _require_language(score.language, error)
            left_out[score.language] = None
            continue
        table.setdefault(score.step, {})[language] = score.score
    return table, tuple(left_out)


def _require_language(name: str, error: CorpusError) -> None:
    """A language that exists is only not in the report; any other text is a mistake."""
    try:
        resolve(name)
    except CorpusError:
        raise ConfigError(f"the scores name no language of the report: {error}") from None


def restrict(table: Table, languages: Sequence[str]) -> Table:
    """The scores of some of the languages."""
    return {
        step: {name: score for name, score in scores.items() if name in languages}
        for step, scores in table.items()
    }


def covariates(report: AlignmentReport, languages: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """What may explain alignment without alignment, one number per language.

    ``fertility``: tokens of the language per token of the pivot. ``surface``: the score of
    character 3-grams alone. ``script``: 1 for another script than Latin. A covariate that the
    report does not hold, or that does not vary, is left out.
    """
    tokens = report.diagnostics.get("tokens", {}).get("languages", {})
    surface = report.diagnostics.get("surface", {})
    columns: dict[str, tuple[float, ...]] = {}
    if all(name in tokens for name in languages):
        columns["fertility"] = tuple(
            tokens[name]["target"]["per_sentence"] / tokens[name]["pivot"]["per_sentence"]
            for name in languages
        )
    if all(name in surface for name in languages):
        columns["surface"] = tuple(surface[name]["characters"] for name in languages)
    columns["script"] = tuple(float(script(name) != "Latn") for name in languages)
    return {name: column for name, column in columns.items() if len(set(column)) > 1}
