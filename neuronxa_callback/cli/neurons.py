"""The list of language neurons of a model as CSV, and how far it can be trusted."""

import csv
import io
from typing import Any

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics.neurons.language_neurons import LanguageNeuron
from neuronxa_callback.probe.probe import Probe, ProgressCallback
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.long_table import plain_cell


def measure_neurons(
    probe: Probe, model: Any, progress: ProgressCallback | None = None
) -> tuple[str, str]:
    """The CSV of LAPE's neurons, and a sentence with the bar and their stability.

    Raises:
        ConfigError: If a layer holds NaN.
    """
    report = probe.run(model, progress=progress)
    found = report.diagnostics["language_neurons"]
    if found is None:
        raise ConfigError(
            "the states of all layers must be numbers, some are NaN; score the model first to see"
            " which layers"
        )
    effects = [effect for effect in found["design_effect"].values() if effect is not None]
    selected = probe.neurons.selected
    summary = (
        f"{len(selected)} neurons; a neuron fires often above a rate of {found['bar']:.4g}"
        f" (--threshold); selections from even and odd sentences overlap by"
        f" {_number(found['stability'])} (Jaccard); tokens count as if they were"
        f" {_number(max(effects, default=None))} times fewer (design effect)"
    )
    return neuron_table(selected, report), summary


def neuron_table(selected: tuple[LanguageNeuron, ...], report: AlignmentReport) -> str:
    """CSV with the columns layer, index, languages, entropy, and a rate per language."""
    names = (report.pivot, *report.languages)
    layers = next(iter(report.metrics.values())).layers
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    head = ("layer", "index", "languages", "entropy", *(f"rate {name}" for name in names))
    writer.writerow([plain_cell(cell) for cell in head])
    for neuron in selected:
        above = " ".join(names[k] for k in neuron.languages)
        cells = (layers[neuron.layer], neuron.index, above, neuron.entropy, *neuron.rates)
        writer.writerow([plain_cell(cell) for cell in cells])
    return file.getvalue()


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
