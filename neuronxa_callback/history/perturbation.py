"""What a perturbation costs: clean minus perturbed, paired over the sentence pairs."""

from collections.abc import Mapping
from dataclasses import replace

from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.metrics.statistics import Change
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import MEAN


def cost_of_perturbation(
    clean: AlignmentReport, perturbed: AlignmentReport, metric: str
) -> Mapping[str, Change]:
    """How much lower the scores of perturbed targets are, by language, and their mean.

    Args:
        clean: The report of the sentences.
        perturbed: That of the same pairs with perturbed targets, of all or some languages.
        metric: A metric that both have.

    Returns:
        Language, or ``"mean"``, -> clean minus perturbed with its 95 % interval; positive where the
        perturbation costs alignment. The p-values are adjusted by Holm over the languages.
    """
    before, after = Point.of(perturbed), Point.of(clean)
    changes = {name: change(before, after, metric, (name,)) for name in perturbed.languages}
    adjusted = statistics.holm([each.p for each in changes.values()])
    return {
        name: replace(each, p=p) for (name, each), p in zip(changes.items(), adjusted, strict=True)
    } | {MEAN: change(before, after, metric, perturbed.languages)}
