"""``neuronxa score --perturb``: the same pairs with perturbed targets, and what that costs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from neuronxa_callback.cli.output import echo
from neuronxa_callback.cli.scoring.cost_tables import NAME
from neuronxa_callback.corpus.perturbation.changes import CHANGES
from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.history.perturbation import cost_of_perturbation
from neuronxa_callback.probe.perturbed.probe import (
    PerturbedCorpus,
    PerturbedProbe,
    count_tokens,
    perturb_corpus,
)
from neuronxa_callback.probe.probe import Probe, ProgressCallback
from neuronxa_callback.probe.tokenization import longest_sentence
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import MEAN
from neuronxa_callback.scores import without_nan


def require_perturbations(kinds: Sequence[str] | None) -> tuple[str, ...]:
    """The names of perturbations, checked.

    Raises:
        ConfigError: If one is unknown.
    """
    for kind in kinds or ():
        if kind not in CHANGES:
            raise ConfigError(unknown("perturbation", kind, CHANGES))
    return tuple(kinds or ())


class Perturbations:
    """The perturbed sentences of a probe, one corpus per kind.

    Args:
        probe: The clean probe.
        model: Its model, for the longest sentence.
        kinds: Names of perturbations.
    """

    def __init__(self, probe: Probe, model: Any, kinds: Sequence[str]) -> None:
        self.probe, self.model = probe, model
        if not kinds:
            self.corpora: list[PerturbedCorpus] = []
            return
        clean = probe.tokenize(model)[0]
        limit = min(probe.config.max_length, longest_sentence(model, probe.tokenizer.tokenizer))
        self.clean_tokens = count_tokens(clean)
        self.corpora = [perturb_corpus(kind, clean, probe.tokenizer, limit) for kind in kinds]

    def describe(self) -> Iterator[str]:
        """Per kind what it costs, and which languages it does not apply to."""
        for corpus in self.corpora:
            languages = len(corpus.tokenized.pairs)
            reasons = [f"n/a in {name}: {reason}" for name, reason in corpus.left_out.items()]
            share = corpus.tokens / self.clean_tokens if languages else 0.0
            cost = f"{share:.2f} times the tokens of the clean sentences, in addition"
            count = f"{languages} language{'s' * (languages != 1)}"
            yield "; ".join([f"--perturb {corpus.kind}: {count}, {cost}", *reasons])

    def measure(
        self, report: AlignmentReport, progress: ProgressCallback | None
    ) -> AlignmentReport:
        """Collective: the report of the clean sentences with the entry ``"perturbed"``."""
        found = {}
        for corpus in self.corpora:
            perturbed = None
            if corpus.tokenized.pairs:
                probe = PerturbedProbe(self.probe, corpus)
                perturbed = probe.run(self.model, report.step, progress)
            found[corpus.kind] = {
                metric: entries(report, perturbed, metric) for metric in report.metrics
            }
        if not found:
            return report
        return replace(report, diagnostics={**report.diagnostics, NAME: found})


def entries(
    clean: AlignmentReport, perturbed: AlignmentReport | None, metric: str
) -> dict[str, Mapping[str, float | None] | None]:
    """Language, or ``"mean"``, -> its scores and their difference as JSON values; None for n/a."""
    names = (*clean.languages, MEAN)
    if perturbed is None:
        return dict.fromkeys(names)
    costs, found = cost_of_perturbation(clean, perturbed, metric), {}
    for name in names:
        members = perturbed.languages if name == MEAN else (name,)
        found[name] = (
            without_nan(
                {
                    "clean": sum(clean.score(metric, each) for each in members) / len(members),
                    "perturbed": perturbed.score(metric, None if name == MEAN else name),
                    **vars(costs[name]),
                }
            )
            if name in costs
            else None
        )
    return found


def announce(perturbations: Perturbations, shown: bool) -> None:
    """Print the cost on stderr, before a sentence runs."""
    for line in perturbations.describe() if shown else ():
        echo(f"neuronxa: {line}", err=True)
