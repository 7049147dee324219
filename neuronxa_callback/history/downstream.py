"""Downstream scores per language, read from the files that evaluation tools write.

Tables (CSV or TSV) with a column ``language`` and ``score``; results of lm-evaluation-harness and
lighteval, whose tasks carry the language in their names; exports of W&B charts.
"""

import csv
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from neuronxa_callback.corpus.languages import WORDS, resolve
from neuronxa_callback.errors import ConfigError, CorpusError, reason

METRICS = ("acc", "acc_norm", "exact_match", "em", "f1", "chrf", "bleu", "rouge", "mcc")
"""Metrics of evaluation tools, the one to take first; otherwise the first number of a task."""
STEP_COLUMNS = ("step", "_step", "global_step", "trainer/global_step")


class DownstreamScore(NamedTuple):
    """One score of a task in one language."""

    language: str
    """As in the file; ``resolve`` knows what it means."""
    task: str
    score: float
    step: int | None = None
    model: str | None = None


@dataclass(frozen=True)
class DownstreamFile:
    """The scores of a file, and what was matched, in words."""

    scores: tuple[DownstreamScore, ...]
    notes: tuple[str, ...] = ()


def read_scores(path: str | Path) -> DownstreamFile:
    """Read a table, a results file of lm-evaluation-harness or lighteval, or a W&B export.

    Raises:
        ConfigError: If the file cannot be read, is none of these, or holds a score twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(
            f"scores must be a readable UTF-8 file, got {str(path)!r}: {reason(cause)}"
        ) from None
    found = _of_results(path, text) if path.suffix.lower() == ".json" else _of_table(path, text)
    _refuse_duplicates(path, found.scores)
    return found


def split_task(name: str) -> tuple[str, str] | None:
    """The task and the language in the name of a task; None if it names no language.

    The language is looked for from the end. ``*`` takes its place in the task.

    >>> split_task("belebele_deu_Latn"), split_task("lighteval|xnli_sw|0"), split_task("arc_easy")
    (('belebele_*', 'deu_Latn'), ('xnli_*', 'sw'), None)
    >>> split_task("include_base_german"), split_task("flores:eng_Latn-swh_Latn")
    (('include_base_*', 'german'), ('flores:eng_Latn-*', 'swh_Latn'))
    """
    parts = name.split("|")
    name = parts[1] if len(parts) > 2 else name
    for match in reversed(
        list(re.finditer(r"[a-z]{3}_[A-Z][a-z]{3}|[a-z]{2}[-_][A-Z]{2}\b", name))
    ):
        if _is_language(match[0]):
            return f"{name[: match.start()]}*{name[match.end() :]}", match[0]
    for match in reversed(list(re.finditer(r"[A-Za-z]+", name))):
        if match.start() and _is_language(match[0]):
            return f"{name[: match.start()]}*{name[match.end() :]}", match[0]
    return None


def _is_language(word: str) -> bool:
    if word.lower() in WORDS:
        return False
    try:
        resolve(word)
    except CorpusError:
        return False
    return True


def _of_results(path: Path, text: str) -> DownstreamFile:
    """The scores of a results file: {"results": {task: {metric: number}}}."""
    try:
        plain = json.loads(text)
        results = plain["results"]
        tasks = {
            str(task): {str(metric): number for metric, number in dict(numbers).items()}
            for task, numbers in results.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ConfigError(
            f"a JSON file of scores must hold 'results' with one entry per task, as"
            f" lm-evaluation-harness and lighteval write it, {path} does not"
        ) from None
    rows, metrics = [], {}
    for name, numbers in tasks.items():
        metric, split = _metric_of(numbers), split_task(name)
        if metric and split:
            try:
                score = float(numbers[metric])
            except OverflowError:
                raise ConfigError(
                    f"{path} must hold numbers that are no larger than 1e308, {metric!r} of"
                    f" {name!r} is"
                ) from None
            rows.append(DownstreamScore(split[1], split[0], score))
            metrics[split[0]] = metric.partition(",")[0]
    kept = _several_languages(rows)
    if not kept:
        raise ConfigError(
            f"{path} must hold tasks in several languages, such as xnli_de and xnli_sw; it has:"
            f" {', '.join(list(tasks)[:8]) or 'none'}"
        )
    notes = [
        f"{task}: {metrics[task]} of {len(languages)} languages ({', '.join(languages)})"
        for task, languages in _by_task(kept).items()
    ]
    return DownstreamFile(tuple(kept), tuple(notes))


def _metric_of(numbers: Mapping[str, Any]) -> str | None:
    """The name of the metric to take from those of a task, such as ``acc,none``."""
    known = {
        name.partition(",")[0]: name
        for name, number in reversed(list(numbers.items()))
        if isinstance(number, int | float) and not isinstance(number, bool) and "stderr" not in name
    }
    first = [metric for metric in METRICS if metric in known] or list(reversed(known))
    return known[first[0]] if first else None


def _of_table(path: Path, text: str) -> DownstreamFile:
    """The scores of a CSV or TSV file, by its header."""
    lines = text.splitlines()
    header = lines[0] if lines else ""
    delimiter = max("\t,;", key=header.count)
    rows = _rows(path, csv.DictReader(lines, delimiter=delimiter, restval=""))
    columns = {name.strip().lower(): name for name in (rows[0][1] if rows else {})}
    if "language" in columns and "score" in columns:
        return _of_long_table(path, rows, columns)
    step = next((columns[name] for name in STEP_COLUMNS if name in columns), None)
    if step is not None:
        return _of_chart(path, rows, step)
    raise ConfigError(
        f"a table of scores needs a header with language, task, score (and step, model), or that of"
        f" a W&B export (Step, then one column per task); {path} has: {header[:100]!r}"
    )


def _rows(path: Path, reader: "csv.DictReader[str]") -> list[tuple[int, dict[str, str]]]:
    """(line in the file, column -> cell) of each row below the header."""
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        for row in reader:
            cells: dict[Any, Any] = dict(row)
            # Such as a decimal comma in a file whose cells end at commas.
            more = [cell for cell in cells.pop(None, ()) if cell.strip()]
            if more:
                raise ConfigError(
                    f"{path}:{reader.line_num} must have no more cells than the header, got"
                    f" {more[0]!r} behind the last column"
                )
            rows.append((reader.line_num, cells))
    except csv.Error as cause:
        raise ConfigError(
            f"{path}:{reader.reader.line_num} must be a row of a table: {reason(cause)}"
        ) from None
    return rows


def _of_long_table(
    path: Path, rows: list[tuple[int, dict[str, str]]], columns: Mapping[str, str]
) -> DownstreamFile:
    scores = []
    for number, row in rows:
        cells = {name: row[column].strip() for name, column in columns.items()}
        try:
            step = int(float(cells["step"])) if cells.get("step") else None
            score = float(cells["score"])
        except (ValueError, OverflowError):
            given = ", ".join(
                f"{name} {cells[name]!r}" for name in ("score", "step") if name in cells
            )
            raise ConfigError(
                f"{path}:{number} must hold numbers as score and step, got {given}"
            ) from None
        task = cells.get("task") or "score"
        scores.append(
            DownstreamScore(cells["language"], task, score, step, cells.get("model") or None)
        )
    return DownstreamFile(tuple(scores))


def _of_chart(path: Path, rows: list[tuple[int, dict[str, str]]], step: str) -> DownstreamFile:
    """The scores of an exported chart: columns such as ``run - eval/xnli_de``."""
    scores: list[DownstreamScore] = []
    taken: dict[str, tuple[tuple[str, str], str | None]] = {}
    for column in rows[0][1]:
        run, _, key = column.rpartition(" - ")
        split = split_task(key)
        if column == step or split is None or key.endswith(("__MIN", "__MAX")):
            continue
        taken[column] = (split, run or None)
    for number, row in rows:
        for column, ((task, language), model) in taken.items():
            if not row[column].strip():
                continue
            try:
                at, score = int(float(row[step])), float(row[column])
            except (ValueError, OverflowError):
                raise ConfigError(
                    f"{path}:{number} must hold numbers as {step!r} and {column!r}, got"
                    f" {row[step]!r} and {row[column]!r}"
                ) from None
            scores.append(DownstreamScore(language, task, score, at, model))
    kept = _several_languages(scores)
    if not kept:
        raise ConfigError(
            f"an export of W&B must have columns of a task in several languages, such as"
            f" eval/xnli_de; {path} has: {', '.join(list(rows[0][1])[:8])}"
        )
    notes = [
        f"{task}: {len(languages)} languages ({', '.join(languages)})"
        for task, languages in _by_task(kept).items()
    ]
    return DownstreamFile(tuple(kept), tuple(notes))


def _several_languages(scores: Iterable[DownstreamScore]) -> list[DownstreamScore]:
    """Only the tasks with at least two languages: ``arc_easy`` is no task in Aramaic."""
    scores = list(scores)
    languages = _by_task(scores)
    return [score for score in scores if len(languages[score.task]) > 1]


def _by_task(scores: Iterable[DownstreamScore]) -> dict[str, list[str]]:
    """Task -> its languages, each once."""
    languages: dict[str, dict[str, None]] = defaultdict(dict)
    for score in scores:
        languages[score.task][score.language] = None
    return {task: list(names) for task, names in languages.items()}


def _refuse_duplicates(path: Path, scores: Iterable[DownstreamScore]) -> None:
    seen = set()
    for score in scores:
        try:
            key = score._replace(language=resolve(score.language), score=0.0)
        except CorpusError as error:
            raise ConfigError(f"{path}: {error}") from None
        if key in seen:
            where = "" if score.step is None else f" at step {score.step}"
            raise ConfigError(
                f"{path} must hold one score per language, task, step and model, it has several of"
                f" {score.language} in {score.task}{where}"
            )
        seen.add(key)
