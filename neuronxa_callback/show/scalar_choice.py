"""Which scalars of a report a tracker gets."""

from collections.abc import Mapping

from neuronxa_callback.errors import ConfigError, unknown
from neuronxa_callback.neuron_scalars import BEYOND
from neuronxa_callback.option_checks import require_text
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.report_schema import MEAN

CHOICES = ("mean", "languages", "all")
DEFAULT = "languages"


def check_scalars(choice: str) -> str:
    """The option ``scalars``.

    Raises:
        ConfigError: If it is none of ``CHOICES``.
    """
    require_text("scalars", choice)
    if choice not in CHOICES:
        raise ConfigError(unknown("scalars", choice, CHOICES))
    return choice


def choose_scalars(report: AlignmentReport, choice: str) -> dict[str, float]:
    """The scalars of a report that a tracker gets.

    Args:
        report: The report.
        choice: ``"mean"``: the mean, early, middle and late layers, peak and chance of each metric,
            the neuron statistics, and the seconds. ``"languages"``: also the languages.
            ``"all"``: also the ends of the intervals, which is ``report.scalars()``.
    """
    scalars = report.scalars()
    if choice == "all":
        return scalars
    ends = interval_ends(scalars)
    left_out = set(ends)
    if choice == "mean":
        languages = {*ends.values(), *(key for key in scalars if f"{BEYOND}/" in key)}
        left_out |= {key for key in languages if not key.endswith(f"/{MEAN}")}
    return {key: score for key, score in scalars.items() if key not in left_out}


def interval_ends(scalars: Mapping[str, float]) -> dict[str, str]:
    """The key of each end of an interval -> the key of its score.

    >>> interval_ends({"m/mean": 0.5, "m/mean/low": 0.4, "m/mean/high": 0.6, "m/peak": 0.7})
    {'m/mean/low': 'm/mean', 'm/mean/high': 'm/mean'}
    """
    scores = [key for key in scalars if f"{key}/low" in scalars]
    return {f"{key}/{end}": key for key in scores for end in ("low", "high")}
