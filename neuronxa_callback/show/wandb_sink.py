"""The sink of W&B: scalars, charts, the best values and the record as an artifact."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import languages
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.records import Record
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.long_table import write_long_table

log = logging.getLogger(__name__)

PICTURES_EVERY = 10
"""Probes per drawing of pictures for W&B, which take most of the time of a sink."""
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

    Raises:
        ConfigError: If ``pictures_every`` is no number of at least 1.
    """

    def __init__(
        self,
        record: str | Path | None = None,
        last_step: int | None = None,
        pictures_every: int = PICTURES_EVERY,
    ) -> None:
        if type(pictures_every) is not int or pictures_every < 1:
            raise ConfigError(
                f"pictures_every must be a number of probes of at least 1, got {pictures_every!r}"
            )
        self.record = None if record is None else Path(record)
        self.last_step, self.pictures_every = last_step, pictures_every
        self.defined: dict[str, None] = {}
        self.best: dict[str, float] = {}
        self.written = 0
        """The number of logged reports."""
        self.run_id: str | None = None
        """The id of the run whose reports are written."""
        self._not_drawn: AlignmentReport | None = None
        """The latest report if it has no pictures yet."""
        self._warned: set[str] = set()

    def write(self, report: AlignmentReport) -> None:
        """Log one report."""
        run = self._run()
        if run is None or (self.last_step is not None and report.step <= self.last_step):
            return
        scalars = report.scalars()
        if not self.defined:
            config = {**report.fingerprint, "corpus": corpus_table(report)}
            run.config.update({_root("neuronxa", report): config}, allow_val_change=True)
            self.run_id = report.run.get("id")
            for earlier in self._recorded():
                self._note_best(earlier.scalars())
        for key in scalars:
            self._define(run, key)
        draws = self.written % self.pictures_every == 0 or _is_last(report)
        media = self._media(report, CHARTS if draws else ("by_layer",))
        run.log({**scalars, **media, "train/global_step": report.step})
        self.written += 1
        self._not_drawn = None if draws else report
        self._note_best(scalars)
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
        last, self._not_drawn = self._not_drawn, None
        if last is not None and (media := self._media(last, PICTURES)):
            run.log({**media, "train/global_step": last.step})
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

    def _define(self, run: Any, key: str) -> None:
        if key in self.defined:
            return
        self.defined[key] = None
        # Exact names: the order in which W&B applies a glob and the Trainer's "*" varies.
        run.define_metric(key, step_metric="train/global_step")

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

    def _media(self, report: AlignmentReport, names: Iterable[str]) -> dict[str, Any]:
        """Charts of a report by their names, without those that cannot be drawn."""
        media: dict[str, Any] = {}
        root = _root("neuronxa_charts", report)
        for metric in report.metrics:
            for name in names:
                try:
                    media[f"{root}/{metric}_{name}"] = CHARTS[name](report, metric)
                except Exception as error:
                    message = f"{name}: {type(error).__name__}: {error}"
                    if message not in self._warned:
                        self._warned.add(message)
                        log.warning("a picture is left out, its scores are logged: %s", message)
        return media


def _is_last(report: AlignmentReport) -> bool:
    """Whether a report is that of the last step of its run."""
    last = report.run.get("max_steps")
    return isinstance(last, int) and report.step >= last


def _root(prefix: str, report: AlignmentReport) -> str:
    """The prefix, with the name of the callback if it has one."""
    return f"{prefix}/{report.run['name']}" if report.run.get("name") else prefix


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


def _picture(drawing: str, report: AlignmentReport, metric: str) -> Any:
    """A drawing of ``neuronxa_callback.show.charts`` as a W&B image."""
    import wandb

    from neuronxa_callback.show import charts

    figure = getattr(charts, drawing)(report, metric)
    return wandb.Image(charts.pixels(figure), caption=f"{metric}, step {report.step}")


CHARTS: Mapping[str, Callable[[AlignmentReport, str], Any]] = {
    "by_layer": _layer_chart,
    "curve": partial(_picture, "by_layer"),
    "heat_map": partial(_picture, "heat_map"),
}
"""The last part of a key -> what draws a metric of a report for W&B."""
PICTURES = ("curve", "heat_map")
"""The charts that matplotlib draws."""


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
