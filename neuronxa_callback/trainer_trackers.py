"""The sinks of a run under a Trainer, and the trackers of ``report_to`` that have none.

Those get the scalars through their own callbacks, as from ``Trainer.log``.
"""

import sys
from collections.abc import Iterable
from typing import Any

from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.show.probe_screen import no_tracker
from neuronxa_callback.show.scalar_choice import choose_scalars
from neuronxa_callback.show.sink_group import SinkGroup
from neuronxa_callback.trainer_events import event_folder, running_trainer, say

WITH_SINKS = ("wandb", "tensorboard", "mlflow", "trackio")
"""Names in ``report_to`` that ``show.sinks`` serves."""
TABLE = "transformers.integrations.integration_utils"
"""The module that maps names in ``report_to`` to callbacks; the Trainer has loaded it."""


class TrainerLogSink:
    """Hands scalars to one tracker's callback, as ``Trainer.log`` does.

    Args:
        tracker: Its name in ``report_to``.
        callback: The tracker's callback of transformers.
        trainer: The Trainer that runs.
        scalars: Which scalars: see ``choose_scalars``.
    """

    def __init__(self, tracker: str, callback: Any, trainer: Any, scalars: str) -> None:
        self.tracker, self.callback, self.scalars = tracker, callback, scalars
        self._event = (trainer.args, trainer.state, trainer.control)

    def write(self, report: AlignmentReport) -> None:
        """Log one report.

        Raises:
            RuntimeError: Names the tracker, if it fails.
        """
        # DVCLive counts what is logged as steps; the Trainer's rows keep the numbers that they had.
        live = getattr(self.callback, "live", None)
        step = getattr(live, "step", None)
        try:
            self.callback.on_log(*self._event, logs=choose_scalars(report, self.scalars))
            if live is not None and step is not None:
                live.step = step
        except Exception as error:
            message = f"{self.tracker}: {type(error).__name__}: {error}"
            raise RuntimeError(message) from error


def other_trackers(names: Iterable[str], scalars: str) -> tuple[TrainerLogSink, ...]:
    """A sink for each tracker of ``report_to`` that has no sink in ``show.sinks``.

    Args:
        names: ``args.report_to``.
        scalars: See ``choose_scalars``.
    """
    trainer = running_trainer()
    callbacks = getattr(getattr(trainer, "callback_handler", None), "callbacks", ())
    kinds = getattr(sys.modules.get(TABLE), "INTEGRATION_TO_CALLBACK", {})
    return tuple(
        TrainerLogSink(name, callback, trainer, scalars)
        for name in names
        if name not in WITH_SINKS and name in kinds
        for callback in callbacks
        if isinstance(callback, kinds[name])
    )


def open_sinks(args: Any, state: Any, given: Any, name: str, scalars: str, saved: Any) -> SinkGroup:
    """The sinks of a run on the first rank, none on others. Print a line if no tracker is on.

    Args:
        args: The arguments of the Trainer.
        state: The state of the Trainer.
        given: The sinks of the callback; None for the trackers.
        name: The name of the callback.
        scalars: Which scalars trackers get.
        saved: The ``ResumeState``.
    """
    if not state.is_world_process_zero:
        return SinkGroup()
    output = args.output_dir or "."
    group = SinkGroup.open(
        output,
        args.report_to or (),
        given,
        resumed_at=state.global_step or None,
        name=name,
        previous_record=saved.record,
        run=saved.run,
        scalars=scalars,
        events=event_folder(),
    )
    if given is None:
        group.sinks += other_trackers(args.report_to or (), scalars)
    if given is None and not group.trackers:
        say(state, no_tracker(output, group.record_path or ""))
    return group
