"""The sink of W&B: scalars, charts, the best values and the record as an artifact."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import languages
from neuronxa_callback.history.records import Record
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.long_table import write_long_table
from neuronxa_callback.show.pictures import (
    DRAWINGS,
    NEURONS,
    PICTURES_EVERY,
    Chart,
    Pictures,
    pixels_of,
    pixels_of_neurons,
    prefixed,
)
from neuronxa_callback.show.scalar_choice import (
    DEFAULT,
    check_scalars,
    choose_scalars,
    interval_ends,
)

MAX_TITLE = 63
"""Characters of the title of an alert, a limit of W&B."""
ALERT_WAIT = 0.001
"""Seconds in which W&B drops an alert of the same title; it reads 0 as a minute."""


class WandbSink:
    """Logs to the active W&B run; does nothing if there is none.

    Scalars are logged with ``train/global_step``, as the Trainer logs its own, and never with
    ``step=``, which would drop or merge rows. The alignment curve by layer and the heat map
    language x layer are logged as pictures (W&B shows a slider over steps), for every tenth probe
    and the last one, because they take most of the time; the curve of every probe is also a native
    W&B chart, which has no slider. A picture that cannot be drawn is left out with a warning.

    Each entry of ``run["alerts"]`` is sent as an alert of W&B.

    The summary has the last value of each key, as a W&B sweep needs it, and the best values as
    ``neuronxa_best/<metric>/<language>``.

    Args:
        record: The JSONL file to upload as an artifact at the end.
        last_step: The last step that a resumed run has already logged; later reports are logged.
        pictures_every: Draw pictures of the first of so many probes, and of the last probe.
        scalars: Which scalars get panels, see ``choose_scalars``. The ends of their intervals are
            logged too, but hidden (``define_metric(hidden=True)``) unless this is ``"all"``.

    Raises:
        ConfigError: If an option cannot be used.
    """

    def __init__(
        self,
        record: str | Path | None = None,
        last_step: int | None = None,
        pictures_every: int = PICTURES_EVERY,
        scalars: str = DEFAULT,
    ) -> None:
        self.pictures = Pictures(pictures_every, CHARTS)
        self.record = None if record is None else Path(record)
        self.last_step, self.scalars = last_step, check_scalars(scalars)
        self.defined: dict[str, None] = {}
        self.best: dict[str, float] = {}
        self.run_id: str | None = None
        """The id of the run whose reports are written."""

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        run = self._run()
        if run is None or (self.last_step is not None and report.step <= self.last_step):
            return
        scalars, ends = self._shown_and_hidden(report)
        if not self.defined:
            config = {**report.fingerprint, "corpus": corpus_table(report)}
            run.config.update({prefixed("neuronxa", report): config}, allow_val_change=True)
            self.run_id = report.run.get("id")
            for earlier in self._recorded():
                self._note_best(earlier.scalars())
        for key in (*scalars, *ends):
            self._define(run, key, hidden=key in ends)
        media = self.pictures.draw(report, ("by_layer",)) | self.pictures.due(report)
        run.log({**scalars, **ends, **media, "train/global_step": report.step})
        self._note_best({**scalars, **ends})
        run.summary.update(self.best)
        for alert in report.run.get("alerts", ()):
            # The wait is W&B's own limit per title; ours is one alert per event.
            title = f"NeuronXA: {alert['rule']}"[:MAX_TITLE]
            text = f"step {report.step}: {alert['reason']}"
            run.alert(title=title, text=text, level="WARN", wait_duration=ALERT_WAIT)

    def close(self) -> None:
        """Log the pictures of the last report, and upload the record and the table of all scores.

        Record and table are one artifact; there is none without a record.
        """
        run = self._run()
        if run is None:
            return
        media, step = self.pictures.of_last()
        if media:
            run.log({**media, "train/global_step": step})
        if self.record is None or not self.record.exists():
            return
        import wandb

        artifact = wandb.Artifact(f"{self.record.parent.name}-{run.id}", type="neuronxa")
        artifact.add_file(str(self.record), name="reports.jsonl")
        with artifact.new_file("scores.csv", mode="w", encoding="utf-8") as file:
            write_long_table(file, self._recorded())
        run.log_artifact(artifact)

    def _run(self) -> Any:
        import wandb

        return wandb.run

    def _shown_and_hidden(
        self, report: AlignmentReport
    ) -> tuple[dict[str, float], dict[str, float]]:
        """The scalars with panels, and the ends of their intervals, which have none."""
        scalars, every = choose_scalars(report, self.scalars), report.scalars()
        ends = {
            end: every[end]
            for end, key in interval_ends(every).items()
            if key in scalars and end not in scalars
        }
        return scalars, ends

    def _define(self, run: Any, key: str, hidden: bool) -> None:
        if key in self.defined:
            return
        self.defined[key] = None
        # Exact names: the order in which W&B applies a glob and the Trainer's "*" varies.
        run.define_metric(key, step_metric="train/global_step", hidden=hidden or None)

    def _recorded(self) -> Sequence[AlignmentReport]:
        """The reports of this run in the record."""
        if self.record is None or not self.record.exists():
            return ()
        record = Record.open(self.record)
        return record.of_run(self.run_id if self.run_id in record.runs else None)

    def _note_best(self, scalars: Mapping[str, float]) -> None:
        for key in (key for key in scalars if f"{key}/low" in scalars):
            best = key.replace("neuronxa/", "neuronxa_best/", 1)
            if scalars[key] > self.best.get(best, -math.inf):
                self.best[best] = scalars[key]


def _layer_chart(report: AlignmentReport, metric: str) -> Any:
    """The native W&B chart of the curve by layer; it shows the latest step only."""
    import wandb

    layers = report.layers(metric)
    numbered = all(isinstance(layer, int) for layer in layers)
    lines = {language: list(report.curve(metric, language)) for language in report.languages}
    lines["chance"] = [report.chance] * len(layers)
    lines["shuffled_baseline"] = [report.shuffled_baseline(metric)] * len(layers)
    return wandb.plot.line_series(
        xs=list(layers if numbered else range(len(layers))),
        ys=list(lines.values()),
        keys=list(lines),
        title=f"{metric} by layer, latest step",
        xname="layer",
    )


def _neuron_picture(report: AlignmentReport, metric: str) -> Any:
    """The picture of the neuron statistics as a W&B image."""
    import wandb

    return wandb.Image(pixels_of_neurons(report, metric), caption=f"neurons, step {report.step}")


def _picture(name: str, report: AlignmentReport, metric: str) -> Any:
    """A picture as a W&B image."""
    import wandb

    image = pixels_of(name, report, metric)
    return wandb.Image(image, caption=f"{metric}, step {report.step}")


CHARTS: Mapping[str, Chart] = {
    "by_layer": _layer_chart,
    NEURONS: _neuron_picture,
    **{name: partial(_picture, name) for name in DRAWINGS},
}
"""The last part of a key -> what draws a metric of a report for W&B."""


def corpus_table(report: AlignmentReport) -> list[dict[str, Any]]:
    """One row per language: its name, pairs, and tokens per sentence (None if not counted)."""
    counted = report.diagnostics.get("tokens", {}).get("languages", {})
    return [
        {
            "language": language,
            "name": languages.name(language),
            "pairs": report.n_pairs,
            "tokens": counted.get(language, {}).get("target", {}).get("per_sentence"),
            "pivot_tokens": counted.get(language, {}).get("pivot", {}).get("per_sentence"),
        }
        for language in report.languages
    ]
