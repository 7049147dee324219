"""The scores of a run on its model card, also after the Trainer has written the card anew."""

import logging
import weakref
from pathlib import Path
from typing import Any

from neuronxa_callback.errors import ReportError
from neuronxa_callback.history.records import Record
from neuronxa_callback.option_checks import require_flag
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.model_card import write_card
from neuronxa_callback.trainer_events import is_best_model_loaded, running_trainer

log = logging.getLogger(__name__)
CARD = "README.md"


def check_model_card(given: bool) -> bool:
    """The option ``model_card``.

    Raises:
        ConfigError: If it is neither true nor false.
    """
    require_flag("model_card", given)
    return given


class CardKeeper:
    """Takes the place of one Trainer's ``create_model_card``: calls it and adds the scores again.

    ``push_to_hub`` writes a new card right before it uploads, after its last event.

    Args:
        trainer: The Trainer; it is not kept alive.
        report: The report to show.
    """

    def __init__(self, trainer: Any, report: AlignmentReport) -> None:
        self.report, self._trainer = report, weakref.ref(trainer)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Write the Trainer's card, then the scores; only an error of the Trainer is raised."""
        trainer = self._trainer()
        if trainer is None:
            raise ReferenceError("create_model_card was called after its Trainer was deleted")
        result = type(trainer).create_model_card(trainer, *args, **kwargs)
        if trainer.is_world_process_zero():
            put_on_card(trainer.args, self.report)
        return result


def finish_card(
    args: Any, state: Any, report: AlignmentReport | None, record: str | None, run: str
) -> None:
    """Write the scores of the weights that training ends with on the card in ``output_dir``.

    Only on the first rank. A failure is a warning.

    Args:
        args: The arguments of the Trainer.
        state: The state of the Trainer.
        report: The report of the last step, if there is one.
        record: The record of the run.
        run: The id of the run.
    """
    if not state.is_world_process_zero:
        return
    trainer = running_trainer()
    try:
        found = report_of_weights(args, state, report, record, run)
        put_on_card(args, found)
        if trainer is not None and callable(getattr(trainer, "create_model_card", None)):
            trainer.create_model_card = CardKeeper(trainer, found)
    except Exception as error:
        warn(error)


def report_of_weights(
    args: Any, state: Any, report: AlignmentReport | None, record: str | None, run: str
) -> AlignmentReport:
    """The report of the last step, or of the step whose weights the Trainer has loaded as the best.

    Raises:
        ReportError: If that step has no report.
    """
    step = state.best_global_step if is_best_model_loaded(args, state) else state.global_step
    if report is not None and report.step == step:
        return report
    known = Record.open(record).of_run(run) if record else ()
    found = next((each for each in reversed(known) if each.step == step), None)
    if found is None:
        raise ReportError(f"step {step}, whose weights are kept, has no report of this run")
    return found


def put_on_card(args: Any, report: AlignmentReport) -> None:
    """Put a report on the card in ``output_dir``; a failure is a warning."""
    folder = Path(args.output_dir or ".")
    name = (getattr(args, "hub_model_id", None) or folder.resolve().name).rpartition("/")[2]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_card(folder / CARD, report, name)
    except Exception as error:
        warn(error)


def warn(error: Exception) -> None:
    """Log why the card has no scores."""
    log.warning("the model card gets no scores: %s: %s", type(error).__name__, error)
