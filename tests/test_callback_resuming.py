"""A run that resumes from a checkpoint: one curve, the same decisions."""

from dataclasses import replace

import pytest
from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, ProbeConfig, StopRule, read_reports
from neuronxa_callback.errors import FingerprintError
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.scripted import timed
from tests.helpers.tiny import parallel

CORPUS = parallel(12)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


class KilledError(RuntimeError):
    pass


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


@pytest.mark.parametrize("restore", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_with_the_same_curve(restore, tokenizer, tmp_path):
    args = {
        "save_strategy": "steps",
        "save_steps": 4,
        "max_steps": 8,
        "restore_callback_states_from_checkpoint": restore,
    }
    whole = trainer_of(
        tokenizer, tmp_path / "whole", [NeuronXACallback(CONFIG, every=2)], args=args
    )
    whole.train()
    cut = trainer_of(
        tokenizer, tmp_path / "cut", [NeuronXACallback(CONFIG, every=2), KillAt(7)], args=args
    )
    with pytest.raises(KilledError):
        cut.train()
    assert [report.step for report in read_reports(tmp_path / "cut")] == [0, 2, 4, 6]
    again = trainer_of(tokenizer, tmp_path / "cut", [NeuronXACallback(CONFIG, every=2)], args=args)
    again.train(resume_from_checkpoint=True)
    assert read_reports(tmp_path / "cut") == read_reports(tmp_path / "whole")
    steps = [row["step"] for row in again.state.log_history if "neuronxa/nasca/mean" in row]
    assert steps == [0, 2, 4, 6, 8]
    kept = again.state.stateful_callbacks["neuronxa_state"]["history"]
    assert kept == whole.state.stateful_callbacks["neuronxa_state"]["history"]


def test_resuming_from_a_checkpoint_without_the_callback(tokenizer, tmp_path):
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trainer_of(tokenizer, tmp_path, args=args).train()
    args["max_steps"] = 6
    again = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=1)], args=args)
    again.train(resume_from_checkpoint=True)
    assert [report.step for report in read_reports(tmp_path)] == [5, 6]


@pytest.mark.parametrize("changed", [{"n_pairs": 8}, {"nas_site": "product"}])
def test_a_resume_that_measures_something_else_is_refused_at_its_start(
    changed, tokenizer, tmp_path
):
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=2)], args=args).train()
    before = read_reports(tmp_path)
    other = NeuronXACallback(replace(CONFIG, **changed))
    again = trainer_of(tokenizer, tmp_path, [other], args=args)
    with pytest.raises(FingerprintError, match="reports of one curve must agree in definition"):
        again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert again.state.global_step == 2
    assert read_reports(tmp_path) == before
    assert [report.step for report in before] == [0, 2, 4]


@pytest.mark.parametrize(("tokens", "used"), [(64, 64), (4096, 128)])
def test_a_resume_with_other_batch_tokens_goes_on_and_notes_a_lower_number(
    tokens, used, tokenizer, tmp_path
):
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}
    first = NeuronXACallback(replace(CONFIG, batch_tokens=128), every=2)
    trainer_of(tokenizer, tmp_path, [first], args=args).train()
    before = read_reports(tmp_path)
    other = NeuronXACallback(replace(CONFIG, batch_tokens=tokens), every=2)
    again = trainer_of(tokenizer, tmp_path, [other], args=args)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    reports = read_reports(tmp_path)
    assert [report.step for report in reports] == [0, 2, 4, 6]
    environments = [report.fingerprint["environment"]["batch_tokens"] for report in reports]
    assert environments == [128, 128, used, used]
    notes = [
        set(after.warnings) - set(b.warnings) for b, after in zip(before, reports, strict=True)
    ]
    note = "batch_tokens is 64 from step 4 on, it was 128 before"
    assert notes == [set(), set(), {note} if used == 64 else set(), set()]
    assert [report.score("nasca") for report in reports] == [each.score("nasca") for each in before]


THREE = parallel(12, ("deu_Latn", "fra_Latn", "spa_Latn"))


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        ({"corpus": THREE}, "languages has spa_Latn only now"),
        ({"languages": ["fra_Latn"]}, "languages has deu_Latn only so far"),
        ({"max_length": 600}, "max_length is 512 so far and 600 now"),
        (
            {"n_pairs": 8, "metrics": ["nasca"]},
            "metrics has navca only so far, and n_pairs is 10 so far and 8 now",
        ),
        ({"template": "A: {sentence}"}, "template is None so far and 'A: {sentence}' now"),
        ({"corpus": parallel(12, seed=5)}, "digest (of the measured sentences) is '"),
    ],
)
def test_a_refused_resume_says_in_words_what_changed_and_what_to_do(
    changed, difference, tokenizer, tmp_path
):
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 2}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], args=args).train()
    args["max_steps"] = 4
    other = NeuronXACallback(replace(CONFIG, **changed))
    with pytest.raises(FingerprintError) as error:
        trainer_of(tokenizer, tmp_path, [other], args=args).train(resume_from_checkpoint=True)
    message = str(error.value)
    assert message.startswith("reports of one curve must agree in definition, but " + difference)
    assert "set that back to what it was" in message
    assert ("digest" in message) == ("digest" in difference)
    # The way out that the message names.
    second = NeuronXACallback(replace(CONFIG, **changed), name="second")
    trainer_of(tokenizer, tmp_path, [second], args=args).train(resume_from_checkpoint=True)
    assert [point.step for point in second.history.points] == [4]


@pytest.mark.parametrize("restore", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_stopped_run_stays_stopped_and_decides_the_same_without_its_record(
    restore, tokenizer, tmp_path, capsys
):
    def run(**more):
        rule = StopRule.plateau(patience=2, min_delta=0.9)
        callbacks = [NeuronXACallback(CONFIG, every=2, stop=rule)]
        args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8, **more}
        args["restore_callback_states_from_checkpoint"] = restore
        return trainer_of(tokenizer, tmp_path, callbacks, args=args)

    whole = run()
    whole.train()
    stopped = whole.state.global_step
    assert stopped == 4
    (tmp_path / "neuronxa" / "reports.jsonl").unlink()
    early = run()
    early.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert early.state.global_step == stopped
    late = run()
    capsys.readouterr()
    late.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{stopped}"))
    assert "this run had been stopped: " in capsys.readouterr().out
    assert late.state.global_step <= stopped + 1


def test_an_interval_chosen_just_before_a_checkpoint_is_kept_over_a_resume(tokenizer, tmp_path):
    args = {"max_steps": 24, "save_strategy": "steps", "save_steps": 20}

    def run(probe):
        callbacks = timed(CONFIG, step=0.01, probe=probe, max_overhead=0.1)
        return trainer_of(tokenizer, tmp_path, callbacks, args=args)

    run(probe=0.03).train()
    # No probe lies between the choice and the checkpoint.
    assert [report.step for report in read_reports(tmp_path)] == [0, 24]
    again = run(probe=0.5)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-20"))
    assert again.state.stateful_callbacks["neuronxa_state"]["interval"] == 30


def test_weights_that_an_optimizer_swaps_are_never_mixed_in_one_curve(tokenizer, tmp_path):
    args = {"optim": "schedule_free_adamw", "eval_strategy": "steps", "eval_steps": 2}
    args |= {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], args=args).train()
    args["max_steps"] = 8
    again = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], args=args)
    again.train(resume_from_checkpoint=True)
    assert [report.step for report in read_reports(tmp_path)] == [0, 2, 4, 6, 8]
    modes = [report.fingerprint["model"]["optimizer_weights"] for report in read_reports(tmp_path)]
    assert modes == ["training"] * 5


def test_a_resumed_run_keeps_the_bar_of_its_first_probe(tokenizer, tmp_path):
    config = replace(CONFIG, neurons=("language_neurons",))
    args = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "learning_rate": 0.05}

    def train(*more, **options):
        callbacks = [NeuronXACallback(config, every=4), *more]
        trainer_of(tokenizer, tmp_path, callbacks, args=args).train(**options)

    with pytest.raises(KilledError):
        train(KillAt(6))
    train(resume_from_checkpoint=True)
    found = [r.diagnostics["language_neurons"] for r in read_reports(tmp_path)]
    assert len({one["bar"] for one in found}) == 1
    assert len({str(one["neurons"]) for one in found}) == len(found) == 3
