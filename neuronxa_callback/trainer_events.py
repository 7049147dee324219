"""Facts about a running Trainer that its callback events do not carry."""

import math
from collections.abc import Iterator
from types import FrameType
from typing import Any

from neuronxa_callback.call_stack import frames, is_method, running_trainers
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.rule_events import RuleOutcome
from neuronxa_callback.show import tables, terminal

STATE = "neuronxa_state"
"""Key in ``state.stateful_callbacks``; not a class name, or the Trainer would try to load it."""
OWNERS = "_neuronxa_callbacks"
"""Attribute of a run's ``TrainerState``: name -> the callback of that name."""


def is_inside_train() -> bool:
    """Whether ``Trainer.train`` is running in this thread."""
    return running_trainer() is not None


def running_trainer() -> Any:
    """The Trainer whose ``train`` is running in this thread, or None.

    The events cannot tell: training that ends by an exception or Ctrl-C sends none, and a later
    ``evaluate()`` looks like an evaluation in training. So this searches the call stack for a
    method ``train`` of a Trainer.
    """
    return next(running_trainers(), None)


def event_folder() -> str | None:
    """The folder in which the running Trainer writes events for TensorBoard; None for none.

    Its default name holds the time at which training began, so it cannot be computed.
    """
    handler = getattr(running_trainer(), "callback_handler", None)
    writers = (getattr(each, "tb_writer", None) for each in getattr(handler, "callbacks", ()))
    # tensorboardX calls it logdir.
    folders = (getattr(w, "log_dir", None) or getattr(w, "logdir", None) for w in writers if w)
    return next((str(folder) for folder in folders if folder), None)


def is_best_model_loaded(args: Any, state: Any) -> bool:
    """Whether the Trainer has replaced the weights of the last step with the best ones."""
    return bool(args.load_best_model_at_end and state.best_model_checkpoint is not None)


def is_stopped_early(state: Any, control: Any) -> bool:
    """Whether a run ends before its last step, by this or another callback."""
    return bool(control.should_training_stop and state.global_step < state.max_steps)


def halt(control: Any) -> None:
    """End a run at this step, without a log entry, an evaluation or a checkpoint."""
    control.should_training_stop = True
    control.should_log = control.should_evaluate = control.should_save = False


def stop(state: Any, control: Any, outcome: RuleOutcome) -> tuple[str, str]:
    """End a run after this step and say why. Returns the label of the rule and the reason."""
    control.should_training_stop = True
    reason = outcome.stop or "rank 0 stops"
    say(state, f"NeuronXA stops this run at step {state.global_step}: {reason}")
    return outcome.stop_rule, reason


def stopped_before(reason: str) -> str:
    """The line of a resumed run that stays stopped.

    >>> stopped_before("nasca is above 0.5")
    'NeuronXA: this run had been stopped: nasca is above 0.5; to go on, pass another rule or none'
    """
    return f"NeuronXA: this run had been stopped: {reason}; to go on, pass another rule or none"


def metric_prefix(metrics: dict[str, float]) -> str:
    """The prefix of an evaluation, from its key ``<prefix>_runtime``.

    All keys have the prefix, so that a longer one is a metric of the user's.

    >>> metric_prefix({"test_de_model_runtime": 1.0, "test_de_runtime": 0.5})
    'test_de'
    >>> metric_prefix({"eval_loss": 1.0})
    'eval'
    """
    keys = [key for key in metrics if key.endswith("_runtime")]
    return min(keys, key=len, default="eval_runtime").removesuffix("_runtime")


def is_evaluation_of_training(state: Any, prefix: str) -> bool:
    """Whether the training loop evaluates: the model is that of the step, at a point of the curve.

    For ``evaluate()`` in another callback, or after the loop, the adapters may be off, or the best
    model loaded. A prefix like ``train`` is that of an additional evaluation.
    """
    own = prefix == "eval" or prefix.startswith("eval_")
    in_loop = own and is_inside_train() and not _is_loop_over(state)
    return in_loop and sum(_is_event(frame) for frame in _frames_in_train()) <= 1


def _is_loop_over(state: Any) -> bool:
    """Whether the Trainer has logged its last row, which it does before it loads the best model."""
    rows = reversed(state.log_history)
    return any("total_flos" in row and row.get("step") == state.global_step for row in rows)


def _frames_in_train() -> Iterator[FrameType]:
    """The running calls, up to that of ``Trainer.train`` or to all of them."""
    for frame in frames():
        if is_method(frame, "Trainer", "train"):
            return
        yield frame


def _is_event(frame: FrameType) -> bool:
    return is_method(frame, "CallbackHandler", "call_event")


def sets_so_far(prefix: str) -> tuple[object, ...]:
    """The running ``evaluate()`` of several sets, and their prefixes up to this one.

    Empty if it has one set. The event cannot tell, so this searches the call stack, up to the event
    of another callback that has called it.
    """
    found: tuple[object, ...] = ()
    events = 0
    for frame in _frames_in_train():
        events += _is_event(frame)
        if events > 1:
            break
        if is_method(frame, "Trainer", "evaluate"):
            sets, root = (frame.f_locals.get(key) for key in ("eval_dataset", "metric_key_prefix"))
            names = [f"{root}_{name}" for name in sets] if isinstance(sets, dict) else []
            if prefix in names:
                found = (id(frame), *names[: names.index(prefix) + 1])
    return found


def run_entries(state: Any) -> dict[str, Any]:
    """The latest logged loss and its step, the epoch, and the last step of the run.

    The loss of the running step is logged after its probe.
    """
    row: dict[str, Any] = next((row for row in reversed(state.log_history) if "loss" in row), {})
    loss = {"loss": row.get("loss"), "loss_step": row.get("step")}
    return {**loss, "epoch": state.epoch, "max_steps": state.max_steps}


def forget_nan_as_best(state: Any) -> None:
    """NaN would stay the best metric forever, since nothing is greater."""
    if state.best_metric is not None and math.isnan(state.best_metric):
        state.best_metric = None


def say(state: Any, *lines: str) -> None:
    """Print lines on the first rank."""
    for line in lines if state.is_world_process_zero else ():
        terminal.say(line)


def show_table(state: Any, report: Any) -> None:
    """Print a table of a report, if there is one, on the first rank."""
    if state.is_world_process_zero and report is not None:
        terminal.show(tables.one_report(report))


def claim_name(state: Any, name: str, owner: object) -> None:
    """Register a callback under its name for one run.

    Raises:
        ConfigError: If another callback of the run has the same name.
    """
    owners = state.__dict__.setdefault(OWNERS, {})
    if owners.setdefault(name, owner) is not owner:
        raise ConfigError(
            f"two NeuronXA callbacks in one Trainer need different names, both have name={name!r};"
            " pass name= to one of them"
        )


def load_state(state: Any, name: str) -> Any:
    """What ``save_state`` saved under a callback's name; None if nothing."""
    saved = state.stateful_callbacks
    return saved.get(_key(name)) if isinstance(saved, dict) else None


def log_row(state: Any, scalars: dict[str, float]) -> None:
    """Append the mean and the languages of each metric to ``state.log_history``.

    Every checkpoint saves all rows, so the intervals and the rest are in the record only.
    """
    scores = {key: score for key, score in scalars.items() if f"{key}/low" in scalars}
    state.log_history.append({**scores, "epoch": state.epoch, "step": state.global_step})


def save_state(state: Any, name: str, saved: dict[str, Any]) -> None:
    """Save plain values with the next checkpoint of the Trainer."""
    state.stateful_callbacks[_key(name)] = saved


def _key(name: str) -> str:
    return f"{STATE}_{name}" if name else STATE
