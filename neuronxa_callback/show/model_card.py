"""The model card of a model: a block of text and the metadata of the hub (``model-index``).

The block stands between two markers, so that a second report replaces the first one. Everything
else on the card is kept, also how its metadata is written: YAML that is read and written again has
no comments, and ``language: no`` is ``false`` there.
"""

import json
import re
from pathlib import Path
from typing import Any, cast

import yaml  # type: ignore[import-untyped]
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from neuronxa_callback.corpus.languages import name
from neuronxa_callback.errors import ConfigError, reason
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.tables import interval, number, ranking
from neuronxa_callback.whole_file import whole_file

BEGIN, END = "<!-- neuronxa: begin -->", "<!-- neuronxa: end -->"
TASK = "cross-lingual-alignment"
"""Task type of the results in ``model-index``; results of this type are replaced."""
INDEX = "model-index"
PAPER = "https://arxiv.org/abs/2507.14900"


def card_block(report: AlignmentReport) -> str:
    """The scores of a report with intervals, corpus and fingerprint as Markdown.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.show.model_card import card_block

        print(card_block(read_reports("runs/mine")[-1]))
    """
    metrics = list(report.metrics)
    definition, environment = (
        report.fingerprint.get(part, {}) for part in ("definition", "environment")
    )
    rows = [None, *_order(report)]
    lines = [
        BEGIN,
        "## Cross-lingual alignment",
        "",
        f"Share of sentence pairs whose translation is the nearest of all in both directions, by"
        f" neuron states ([NeuronXA]({PAPER})), at step {report.step}: {report.n_pairs} pairs per"
        f" language with {name(report.pivot)}, 95 % intervals; chance is {report.chance:.3f}.",
        "",
        _row("language", *metrics),
        _row(*["---"] * (len(metrics) + 1)),
        *(_row(*_cells(report, language)) for language in rows),
        "",
        f"Corpus: {_plain(definition.get('corpus', 'unknown'))}, digest"
        f" `{_plain(definition.get('digest', 'unknown'))}`. Measured by neuronxa-callback"
        f" {_plain(environment.get('neuronxa_callback', '(unknown version)'))}. A score compares a"
        " model with itself and with models that were measured on the same"
        " sentences; it is no measure of quality.",
        END,
    ]
    return "\n".join(lines)


def add_to_card(card: ModelCard, report: AlignmentReport, model_name: str) -> ModelCard:
    """A card with the block and the metadata of a report in place of those of an earlier one.

    Args:
        card: Any model card; it is not changed.
        report: The report to show.
        model_name: The name in ``model-index``, unless the card has one.
    """
    new = ModelCard(str(card))
    block = card_block(report)
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    text = new.text.rstrip("\n")
    new.text = (
        pattern.sub(lambda _: block, text, count=1)
        if pattern.search(text)
        else f"{text}\n\n{block}".lstrip("\n")
    ) + "\n"
    data = cast("ModelCardData", new.data)
    kept = [result for result in data.eval_results or () if result.task_type != TASK]
    data.eval_results = [*kept, *_results(report)]
    data.model_name = data.model_name or model_name
    return new


def write_card(path: Path, report: AlignmentReport, model_name: str) -> None:
    """Add a report to the card at a path; make the card if there is none.

    Raises:
        ConfigError: If the file is no model card.
    """
    try:
        old = path.read_bytes().decode("utf-8-sig") if path.is_file() else None
        card = _empty_card(model_name) if old is None else ModelCard(old)
        text = str(add_to_card(card, report, model_name))
        text = text if old is None else _with_old_metadata(text, old)
    except Exception as cause:
        raise ConfigError(
            f"{path} must be a model card with valid metadata: {reason(cause)}"
        ) from None
    with whole_file(path) as beside:
        beside.write_bytes(text.encode())


def _with_old_metadata(text: str, old: str) -> str:
    """A card with the metadata of an older text of it, in which only ``model-index`` is replaced.

    The card stays as it is if that cannot be done, such as with an alias of a part of the index.
    """
    new_part, old_part = (REGEX_YAML_BLOCK.search(each) for each in (text, old))
    if new_part is None or old_part is None:
        return text
    try:
        index = yaml.safe_load(new_part[2])[INDEX]
        metadata = _replace_index(old_part[2], index)
        found, known = yaml.safe_load(metadata), yaml.safe_load(old_part[2]) or {}
    except (yaml.YAMLError, KeyError):
        return text
    if _texts(found) != _texts({**known, INDEX: index}):
        return text
    return f"{old_part[1]}{metadata}{old_part[3]}{text[new_part.end() :]}"


def _replace_index(metadata: str, index: Any) -> str:
    """The text of the metadata with another ``model-index``."""
    root = yaml.compose(metadata, Loader=yaml.SafeLoader)
    nodes = root.value if isinstance(root, yaml.MappingNode) else []
    at = next((k for k, (key, _) in enumerate(nodes) if key.value == INDEX), None)
    if root is not None and root.flow_style:
        entry = f"{INDEX}: {json.dumps(index)}"
        if at is None:
            start = stop = root.start_mark.index + 1
            entry += ", "
        else:
            start, stop = nodes[at][0].start_mark.index, nodes[at][1].end_mark.index
        return metadata[:start] + entry + metadata[stop:]
    ending = re.search(r"\r\n|\r|\n", metadata)
    newline = ending[0] if ending else "\n"
    entry = newline.join(_dump({INDEX: index}).splitlines())
    if at is None:
        return f"{metadata}{newline if metadata else ''}{entry}"
    start = nodes[at][0].start_mark.index
    stop = nodes[at + 1][0].start_mark.index if at + 1 < len(nodes) else len(metadata)
    # What follows the last line of the index stays: empty lines and comments on the next key.
    behind = re.search(r"(?:[\r\n][ \t]*(?:#[^\r\n]*)?)*\Z", metadata[start:stop])
    kept = behind[0] if behind else ""
    return f"{metadata[:start]}{entry}{kept}{metadata[stop:]}"


def _texts(metadata: dict[Any, Any]) -> dict[Any, str]:
    """Key -> its value as YAML: NaN differs from itself."""
    return {key: _dump(value) for key, value in metadata.items()}


def _dump(plain: Any) -> str:
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)).strip()


def _empty_card(model_name: str) -> ModelCard:
    data = ModelCardData(model_name=model_name)
    card = ModelCard(f"---\n{{}}\n---\n\n# {model_name}\n")
    card.data = data
    return card


def _results(report: AlignmentReport) -> list[EvalResult]:
    """The macro-mean of each metric, then the score of each language by its first metric."""
    definition = report.fingerprint.get("definition", {})
    first = next(iter(report.metrics))
    wanted: list[tuple[str, str | None]] = [(metric, None) for metric in report.metrics]
    wanted += [(first, language) for language in report.languages]
    return [
        EvalResult(
            task_type=TASK,
            task_name="Cross-lingual alignment",
            dataset_type="parallel-sentences",
            dataset_name=str(definition.get("corpus", "unknown")),
            dataset_config=f"{report.pivot}-{language or 'mean'}",
            dataset_args={
                "n_pairs": report.n_pairs,
                "digest": str(definition.get("digest", "unknown")),
            },
            metric_type=metric,
            metric_name=f"{metric.upper()} ({name(language) if language else 'mean'})",
            metric_value=round(score, 4),
            source_name="NeuronXA",
            source_url=PAPER,
        )
        for metric, language in wanted
        if (score := report.score(metric, language)) == score
    ]


def _order(report: AlignmentReport) -> list[str]:
    ranked = [language for language, _ in ranking(report, next(iter(report.metrics)))]
    return ranked + [language for language in report.languages if language not in ranked]


def _cells(report: AlignmentReport, language: str | None) -> list[str]:
    first = "**mean**" if language is None else f"{name(language)} ({_plain(language)})"
    return [
        first,
        *(
            f"{number(report.score(metric, language))} [{interval(report, metric, language, ', ')}]"
            for metric in report.metrics
        ),
    ]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: object) -> str:
    """Text from a record without characters that Markdown or HTML would interpret."""
    return re.sub(r"[^\w .:/@+-]", "", str(text))
