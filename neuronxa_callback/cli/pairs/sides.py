"""The reports that the arguments of ``neuronxa pairs`` name, and the sentences of their pairs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuronxa_callback.cli.hubs import measured_pairs, recorded_corpus
from neuronxa_callback.cli.load_model import (
    LoadOptions,
    load_model,
    load_tokenizer,
    require_model,
)
from neuronxa_callback.cli.option_values import is_builtin, saved_step
from neuronxa_callback.cli.output import progress_bar
from neuronxa_callback.cli.run_record import RunRecord, select_report
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.languages import resolve
from neuronxa_callback.corpus.rows import Pair
from neuronxa_callback.errors import ConfigError, NeuronXAError
from neuronxa_callback.history.records import find_record
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.report import AlignmentReport

Pairs = Mapping[str, Sequence[Pair]]
"""language -> the pairs that were measured."""


@dataclass(frozen=True)
class Sides:
    """One report, or two to compare; the sentences of their pairs, where they are at hand."""

    reports: tuple[AlignmentReport, ...]
    """The report, or those before and after."""
    pairs: Pairs | None
    """None if the sentences are not known."""
    note: str = ""
    """Why they are not known."""


def sides_of(
    arguments: Sequence[str],
    options: Mapping[str, Any],
    load_options: LoadOptions,
    language: str | None,
    metric: str | None,
    corpus: str | None,
) -> Sides:
    """Reads or measures one or two sides.

    Args:
        arguments: Each a run or report, as in ``runs/out@best``, or a model, which is measured. A
            model beside a report is measured as the report was.
        options: Of ``ProbeConfig``, for models without a report beside them.
        load_options: How models are loaded.
        language: A code or name; None for all languages. Only it is measured.
        metric: The metric of the listing, which is measured alone; None for NASCA.
        corpus: The sentences of a report that are not built in; None if they are unknown.

    Raises:
        ConfigError: If a side is neither a report nor a model, or an option cannot be used.
    """
    known = {each: select_report(each, metric) for each in arguments if is_report(each)}
    recorded = next(iter(known.values()), None)
    models = [each for each in arguments if each not in known]
    if not models and recorded is not None:
        return _with_sentences(tuple(known[each] for each in arguments), recorded, corpus)
    for model in models:
        require_model(model, load_options)
    if recorded is not None:
        overrides = {"corpus": options["corpus"]} if "corpus" in options else {}
        config = RunRecord(recorded).config(overrides)
        load_options = RunRecord(recorded).load_options(load_options)
    else:
        config = ProbeConfig(**{**options, "metrics": (metric or "nasca",)})
        if language is not None:
            name = resolve(language, config.load().languages)
            config = replace(config, languages=(name,))
    config = replace(config, diagnostics=(), neurons=("rivals",))
    pairs: Pairs | None = None
    for model in models:
        known[model], pairs = _measure(model, config, load_options)
    return Sides(tuple(known[each] for each in arguments), pairs)


def recorded_sentences(
    curves: Mapping[str, Sequence[AlignmentReport]], corpus: str | None
) -> tuple[dict[str, Pairs], list[str]]:
    """Run -> its sentences, and one message per run whose sentences are not at hand."""
    found: dict[str, Pairs] = {}
    messages = []
    for name, reports in curves.items():
        sides = _with_sentences((), reports[0], corpus)
        if sides.pairs is None:
            messages.append(f"{name}: {sides.note}")
        else:
            found[name] = sides.pairs
    return found, messages


def is_report(argument: str) -> bool:
    """Whether an argument names a run with a record, or a file of reports."""
    path = argument
    if not Path(argument).exists() and "@" in argument:
        path = argument.rpartition("@")[0]
    if Path(path).is_file():
        return Path(path).suffix in (".json", ".jsonl")
    try:
        find_record(path)
    except ConfigError:
        return False
    return True


def _measure(
    model: str, config: ProbeConfig, load_options: LoadOptions
) -> tuple[AlignmentReport, Pairs]:
    probe = Probe(config, load_tokenizer(model, load_options))
    loaded = load_model(model, load_options)
    with progress_bar(True, "sentences") as progress:
        report = probe.run(loaded, saved_step(model), progress)
    return report, probe.tokenize(loaded)[0].pairs


def _with_sentences(
    reports: tuple[AlignmentReport, ...], one: AlignmentReport, corpus: str | None
) -> Sides:
    """The sentences of a record: from its own built-in corpus, or one of the same digest."""
    if corpus is None and not is_builtin(recorded_corpus(one)):
        note = f"the sentences of {recorded_corpus(one)} are shown with --corpus"
        return Sides(reports, None, note)
    try:
        return Sides(reports, measured_pairs(one, corpus)[1])
    except NeuronXAError as cause:
        return Sides(reports, None, f"the sentences are not shown: {cause}")
