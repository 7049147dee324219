"""Logs the reports of a record to a W&B run of another process, each report once.

A row of an open run is lost if its process is killed (wandb 0.31: an offline file is empty until it
has 32 KiB or ``finish``). So the run is opened, gets its rows, and is finished again; a file beside
the record lists the steps that are in it.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.wandb_sink import WandbSink

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WandbRunName:
    """The name of a W&B run; W&B's own settings have the defaults of entity and project."""

    run: str
    project: str | None = None
    entity: str | None = None

    @classmethod
    def parse(cls, path: str | None, run: str | None) -> "WandbRunName | None":
        """From ``ENTITY/PROJECT/RUN`` or from an id; None without either.

        Raises:
            ConfigError: If both are given, or the path has not three parts.

        >>> WandbRunName.parse("team/llm/abc123", None)
        WandbRunName(run='abc123', project='llm', entity='team')
        """
        if path is not None and run is not None:
            raise ConfigError("--wandb and --resume-run both name a W&B run, pass one of them")
        if path is None:
            return None if run is None else cls(run)
        parts = path.split("/")
        if len(parts) != 3 or not all(parts):
            raise ConfigError(f"--wandb must be ENTITY/PROJECT/RUN, got {path!r}")
        return cls(parts[2], parts[1], parts[0])

    def __str__(self) -> str:
        """The path, without the parts that are not known."""
        return "/".join(part for part in (self.entity, self.project, self.run) if part)


class WandbPublisher:
    """Logs reports to a W&B run, and remembers which.

    Args:
        name: The run.
        record: The JSONL file of the reports; ``<record>.wandb.json`` lists the logged steps.
        pause: Called between two openings: W&B names the folder of a run after the second.
    """

    def __init__(
        self, name: WandbRunName, record: Path, pause: Callable[[], None] = lambda: time.sleep(1.1)
    ) -> None:
        self.name, self.record, self._pause = name, record, pause
        self.ledger = record.with_suffix(".wandb.json")
        self._opened = False
        self._warned: set[str] = set()

    def publish(self, reports: Iterable[tuple[AlignmentReport, str]], last: bool = False) -> None:
        """Log the reports that the run lacks; an error of W&B is a warning, they stay due.

        Args:
            reports: (report, id of its weights).
            last: Whether to add the record as an artifact, at the end of a run.
        """
        state = self._read()
        self._remove_unfinished(state)
        logged: dict[str, str] = state["steps"]
        due = [(report, key) for report, key in reports if logged.get(str(report.step)) != key]
        if not due and not (last and self._opened):
            return
        try:
            self._log([report for report, _ in due], logged, last)
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            if message not in self._warned:
                self._warned.add(message)
                log.warning("W&B run %s gets its scores later: %s", self.name, message)
            return
        self._write({"steps": {**logged, **{str(report.step): key for report, key in due}}})

    def _log(self, reports: list[AlignmentReport], logged: Mapping[str, str], last: bool) -> None:
        import wandb

        if self._opened:
            self._pause()
        self._opened = True
        options: dict[str, Any] = {"resume": "allow", "mode": "offline"}
        if wandb.setup().settings.mode not in ("offline", "dryrun", "disabled"):
            # The training process may have the run open: this one is a second writer.
            shared = {"x_primary": False, "x_update_finish_state": False, "x_label": "neuronxa"}
            options = {"settings": wandb.Settings(mode="shared", **shared)}
        if wandb.setup().settings.mode == "disabled":
            options["mode"] = "disabled"
        options |= {"project": self.name.project, "entity": self.name.entity}
        with wandb.init(id=self.name.run, **options) as run:
            folder = str(Path(run.dir).parent) if run.offline else None
            self._write({"steps": logged, "unfinished": folder})
            sink = WandbSink(self.record)
            for report in reports:
                sink.write(report)
            if last:
                sink.close()

    def _remove_unfinished(self, state: Mapping[str, Any]) -> None:
        """Remove the offline folder of a process that was killed: its rows are logged again."""
        folder = state.get("unfinished")
        if folder and Path(folder).name.endswith(f"-{self.name.run}"):
            shutil.rmtree(folder, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        try:
            state = json.loads(self.ledger.read_text(encoding="utf-8"))
            return state if state["run"] == str(self.name) else {"steps": {}}
        except FileNotFoundError:
            return {"steps": {}}
        except (ValueError, KeyError, TypeError):
            log.warning("%s cannot be read, all reports are logged again", self.ledger)
            return {"steps": {}}

    def _write(self, state: Mapping[str, Any]) -> None:
        write_whole(self.ledger, json.dumps({"run": str(self.name), **state}))


def write_whole(path: Path, text: str) -> None:
    """Write a file so that no reader sees a part of it.

    Raises:
        OSError: If it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
