"""The sentences of hubs, where the corpus is at hand. A report holds their numbers only."""

from collections.abc import Mapping, Sequence

from neuronxa_callback.cli.option_values import is_builtin
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.rows import Pair
from neuronxa_callback.corpus.text import shorten
from neuronxa_callback.errors import CorpusError, NeuronXAError
from neuronxa_callback.probe.fingerprint import pairs_digest
from neuronxa_callback.report import AlignmentReport

MAX_TEXT = 200
"""Characters of a sentence that are shown."""


def hub_sentences(
    report: AlignmentReport, corpus: ParallelCorpus, pairs: Mapping[str, Sequence[Pair]]
) -> list[str]:
    """One message per hub sentence: its line, its text, and how many pairs it blocks where.

    Args:
        report: A report with hubs.
        corpus: The corpus, which knows the lines.
        pairs: language -> the pairs that were measured, some of the corpus.
    """
    found: dict[tuple[str, str], list[tuple[int, str, str]]] = {}
    for metric, scores in report.metrics.items():
        for language in scores.hubs:
            strongest = scores.strongest_hub(language)
            if strongest is None:
                continue
            hub, layer, _ = strongest
            pair = pairs[language][hub.pair]
            i = corpus.pairs[language].index(pair)
            place = corpus.where(language, i, pivot=hub.side == "pivot")
            text = shorten(pair[hub.side != "pivot"], MAX_TEXT)
            where = f"{language} in layer {layer} of {metric}"
            found.setdefault((place, text), []).append((hub.blocked, language, where))
    messages = []
    for (place, text), cases in found.items():
        blocked, language, where = max(cases, key=lambda case: case[0])
        others = len({case[1] for case in cases} - {language})
        also = f", and is a hub in {others} more languages" if others else ""
        messages.append(
            f"hub: {place}: {text!r} blocks {blocked} of {report.n_pairs} pairs of {where}{also};"
            " drop or replace this line in all languages"
        )
    return messages


def recorded_hub_sentences(report: AlignmentReport, corpus: str | None) -> list[str]:
    """The messages for a report of a record; one that says why, if the sentences are not at hand.

    Args:
        report: A report, of any run.
        corpus: The file or folder that was measured; None for the built-in sentences.
    """
    scored = report.metrics.values()
    if not any(scores.strongest_hub(name) for scores in scored for name in scores.hubs):
        return []
    recorded = recorded_corpus(report)
    if corpus is None and not is_builtin(recorded):
        return []
    try:
        whole, pairs = measured_pairs(report, corpus)
    except NeuronXAError as cause:
        return [f"the sentences of hubs are not shown: {cause}"]
    return hub_sentences(report, whole, pairs)


def recorded_corpus(report: AlignmentReport) -> str:
    """The name of the corpus that a report measured, without its version."""
    return str(report.fingerprint["definition"]["corpus"]).partition("@")[0]


def measured_pairs(
    report: AlignmentReport, corpus: str | None
) -> tuple[ParallelCorpus, dict[str, tuple[Pair, ...]]]:
    """The corpus of a report and its pairs by language, in the order that was measured.

    Args:
        report: A report, of any run.
        corpus: The file or folder that was measured; None for the built-in sentences.

    Raises:
        CorpusError: If the corpus cannot be read, or does not begin with those pairs.
    """
    corpus = corpus or recorded_corpus(report)
    whole = _read(corpus, report).select(report.languages)
    pairs = {name: whole.pairs[name][: report.n_pairs] for name in report.languages}
    if pairs_digest(pairs) != report.fingerprint["definition"]["digest"]:
        raise CorpusError(f"{corpus} does not begin with the pairs that were measured")
    return whole, pairs


def _read(corpus: str, report: AlignmentReport) -> ParallelCorpus:
    if is_builtin(corpus):
        return ParallelCorpus.builtin(corpus.partition(":")[2] or "dev")
    return ParallelCorpus.read(corpus, pivot=report.pivot, languages=report.languages)
