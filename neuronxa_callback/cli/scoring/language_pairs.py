"""``neuronxa score --pivot all``: the cost before it starts, and the matrix as a picture."""

from pathlib import Path

from neuronxa_callback.cli.option_values import require_parent
from neuronxa_callback.cli.output import echo
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.report import AlignmentReport


def prepare_pairs(probe: Probe, pivot: str | None, plot: Path | None, shown: bool) -> None:
    """Check the options before a model is loaded, and let the probe print the cost of all pairs.

    Args:
        probe: The probe.
        pivot: As in ``Probe.run``.
        plot: Where the matrix goes; None for no picture.
        shown: Whether this rank prints.

    Raises:
        ConfigError: If there is a picture to draw but no matrix, or no folder for it.
    """
    if plot is not None and pivot is None:
        raise ConfigError(
            "--plot draws the matrix of all pairs of languages, which is measured with --pivot all"
            " only; add --pivot all"
        )
    if plot is not None:
        require_parent(plot)
    if shown:
        probe.announce = lambda line: echo(f"neuronxa: {line}", err=True)


def write_matrix(report: AlignmentReport, plot: Path | None) -> None:
    """Write the picture, if there is one to write."""
    if plot is not None:
        from neuronxa_callback.show.charts import write_picture

        write_picture([report], plot, language_pairs=True)
        echo(str(plot), err=True)
