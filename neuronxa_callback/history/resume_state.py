"""The state that a checkpoint keeps of a run, so that a resume continues its curve.

The state carries a schema, the version of this package and a digest. One that is damaged or has
another schema is not used: the history is then read from the record of the run.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from neuronxa_callback._version import __version__
from neuronxa_callback.errors import ConfigError, NeuronXAError, reason
from neuronxa_callback.history.history import History
from neuronxa_callback.history.records import FOLDER, find_record, read_record
from neuronxa_callback.history.stopping import StopRule

log = logging.getLogger(__name__)

STATE_SCHEMA = 1
"""Version of the saved state; only this version is read."""
CHOSEN = ("interval", "every", "max_overhead")
"""The entries of ``ProbeSchedule.chosen``."""


@dataclass(frozen=True)
class ResumeState:
    """What a resume needs of the run that it continues."""

    history: History = field(default_factory=History)
    chosen: dict[str, Any] | None = None
    """``ProbeSchedule.chosen``."""
    stopped: tuple[str, str] | None = None
    """The label of the stop rule that had stopped the run, and why."""
    batch_tokens: int | None = None
    record: str | None = None
    """The path of the record."""
    run: str | None = None
    """The id of the run; None starts a new one."""
    firing_bar: float | None = None
    """The bar of language neurons, which the first probe has fixed."""
    holding: tuple[str, ...] = ()
    """The alert rules whose condition holds, by their labels."""

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON values, with schema, version and digest."""
        saved = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        saved |= {"history": self.history.state(), "holding": list(self.holding)}
        label, why = self.stopped or ("", None)
        saved |= {"stopped": why, "stopped_by": label}
        saved |= dict.fromkeys(CHOSEN) | (saved.pop("chosen") or {})
        saved |= {"schema": STATE_SCHEMA, "version": __version__}
        return {**saved, "digest": _digest(saved)}

    @classmethod
    def from_dict(cls, plain: Any) -> Self:
        """Read what ``to_dict`` returned.

        Raises:
            ConfigError: If it is damaged or has another schema.
        """
        try:
            if plain.get("schema") != STATE_SCHEMA:
                raise ConfigError(f"its schema must be {STATE_SCHEMA}, got {plain.get('schema')!r}")
            saved = {key: value for key, value in plain.items() if key != "digest"}
            if plain.get("digest") != _digest(saved):
                raise ConfigError("its digest must be that of its content, it is damaged")
            # States of before 0.1.0 may lack the newest entries.
            entries = {"holding": [], "firing_bar": None, "stopped_by": ""} | saved
            stopped, chosen = entries["stopped"], {k: saved[k] for k in CHOSEN if k in saved}
            entries |= {
                "holding": tuple(entries["holding"]),
                "stopped": None if stopped is None else (entries["stopped_by"], stopped),
                "chosen": None if chosen["interval"] is None else chosen,
            }
            entries = {entry.name: entries[entry.name] for entry in fields(cls)}
            return cls(**{**entries, "history": History.from_state(saved["history"])})
        except ConfigError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as cause:
            raise ConfigError(f"it cannot be read: {reason(cause)}") from None

    def stopped_by(self, rules: Sequence[StopRule]) -> tuple[str, str] | None:
        """``stopped`` if that rule is still given; None for a run that goes on."""
        labels = [rule.label for rule in rules if rule.action == "stop"]
        if self.stopped is None or not labels:
            return None
        # States of before 0.1.0 have no label.
        return self.stopped if self.stopped[0] in (*labels, "") else None

    def history_for(self, rules: Sequence[StopRule], step: int, first_rank: bool) -> History:
        """The history up to a step, read from the record if a new rule needs more than is saved.

        Args:
            rules: Those of the run that resumes.
            step: The step of the checkpoint.
            first_rank: Whether this is rank 0, which decides; others keep what is saved.
        """
        new = [rule.label for rule in rules if first_rank and rule.lacks(self.history)]
        if not new:
            return self.history
        read = History()
        try:
            reports, _ = read_record(self.record or "", self.run)
            for report in reports:
                if report.step <= step:
                    read.append(report)
        except (NeuronXAError, OSError) as error:
            log.warning(
                "the rule %s is new in this run, and its best score counts from step %d on, since"
                " the earlier reports cannot be read: %s", new[0], step, reason(error),
            )  # fmt: skip
            return self.history
        return read if read.points else self.history

    @classmethod
    def load(cls, plain: Any, output_dir: str | Path, name: str, step: int) -> Self:
        """The state of a checkpoint; with one warning, a fresh one if it cannot be used.

        Args:
            plain: The saved state; None if the checkpoint has none.
            output_dir: The output folder; a fresh history is read from its record.
            name: The name of the callback, which has a record of its own.
            step: The step of the checkpoint.
        """
        if plain is None:
            return cls()
        try:
            return cls.from_dict(plain)
        except NeuronXAError as error:
            fresh, source = cls._from_record(Path(output_dir) / FOLDER / name, step)
            log.warning(
                "the saved state of this callback is not used, %s; the history has %d earlier"
                " probes, read from %s, and options that the run had chosen are chosen again",
                str(error)[:300],
                len(fresh.history.points),
                source,
            )
            return fresh

    @classmethod
    def _from_record(cls, folder: Path, step: int) -> tuple[Self, str]:
        """A state with the reports of the record up to a step, and the name of its source."""
        state, source = cls(), f"no record, since {folder} has none"
        try:
            source = str(find_record(folder))
            reports, _ = read_record(folder)
            for report in reports:
                if report.step <= step:
                    state.history.append(report)
                    state = replace(state, run=report.run.get("id", ""), record=source)
        except (NeuronXAError, OSError) as error:
            return cls(), f"no record ({reason(error)})"
        return state, source


def _digest(saved: dict[str, Any]) -> str:
    text = json.dumps(saved, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
