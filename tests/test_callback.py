"""What becomes of a report: the log, the record, the sinks, and the errors of a probe."""

import json
import math

import pytest
from transformers import TrainerCallback, TrainerControl, TrainerState

from neuronxa_callback import (
    MemorySink,
    NeuronXACallback,
    Probe,
    ProbeConfig,
    StopRule,
    read_reports,
)
from neuronxa_callback.errors import ConfigError, CorpusError
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.scripted import PlannedError, ScriptedCallback, failing_at, timed, with_score
from tests.helpers.tiny import parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


def test_scores_are_in_the_log_history_and_in_the_record(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    trainer.train()
    rows = [row for row in trainer.state.log_history if "neuronxa/nasca/mean" in row]
    reports = read_reports(tmp_path)
    assert [row["step"] for row in rows] == [report.step for report in reports] == [0, 3, 6]
    for row, report in zip(rows, reports, strict=True):
        assert row["neuronxa/nasca/deu_Latn"] == report.score("nasca", "deu_Latn")
    assert reports[1].run["loss"] is not None
    json.dumps(trainer.state.log_history)


def test_the_log_history_has_means_and_languages_only(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)])
    trainer.train()
    names = ("mean", *CORPUS.languages)
    expected = {f"neuronxa/{metric}/{name}" for metric in CONFIG.metrics for name in names}
    rows = [row for row in trainer.state.log_history if "neuronxa/nasca/mean" in row]
    assert rows
    assert all({*row} == expected | {"epoch", "step"} for row in rows)


def test_the_model_measured_is_the_model_of_the_step(tokenizer, tmp_path):
    class Watch(TrainerCallback):
        def __init__(self):
            self.found = {}

        def on_step_end(self, args, state, control, model=None, **kwargs):
            self.found[state.global_step] = Probe(CONFIG, tokenizer).run(model).metrics

    watch = Watch()
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=1), watch])
    trainer.train()
    for report in read_reports(tmp_path)[1:]:
        assert report.metrics == watch.found[report.step]


def test_a_step_is_probed_if_it_is_evaluated_the_last_or_due():
    callback = NeuronXACallback(CONFIG, every=10)
    state, control = TrainerState(global_step=7, max_steps=99), TrainerControl()
    assert not callback.should_probe(state, control)
    assert callback.should_probe(state, TrainerControl(should_evaluate=True))
    # A run that ends early is probed at its end: its checkpoint comes first.
    assert not callback.should_probe(state, TrainerControl(should_training_stop=True))
    assert callback.should_probe(TrainerState(global_step=99, max_steps=99), control)
    assert callback.should_probe(TrainerState(global_step=20, max_steps=99), control)


def test_a_second_train_is_a_curve_of_its_own(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    trainer.train()
    first = read_reports(tmp_path)
    trainer.train()
    assert [report.step for report in read_reports(tmp_path)] == [0, 3, 6]
    assert read_reports(tmp_path) != first
    assert len(list((tmp_path / "neuronxa").glob("reports*.jsonl"))) == 2


def test_a_probe_that_fails_later_is_one_warning_and_nan(tokenizer, tmp_path, caplog):
    seen = {}

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen[state.global_step] = metrics["eval_nasca"]

    callback = ScriptedCallback(CONFIG, failing_at(2, 4))
    args = {"eval_strategy": "steps", "eval_steps": 2}
    trainer_of(tokenizer, tmp_path, [callback, Watch()], args=args).train()
    assert {step: math.isnan(score) for step, score in seen.items()} == {
        2: True,
        4: True,
        6: False,
    }
    assert [report.step for report in read_reports(tmp_path)] == [0, 6]
    warned = [r.getMessage() for r in caplog.records if "probe failed" in r.getMessage()]
    assert warned == [
        "a NeuronXA probe failed, training goes on, the next one tries again: PlannedError: planned"
    ]


def test_on_error_raise_ends_the_run(tokenizer, tmp_path):
    callback = ScriptedCallback(CONFIG, failing_at(4), on_error="raise", every=2)
    with pytest.raises(PlannedError):
        trainer_of(tokenizer, tmp_path, [callback]).train()


def test_the_first_probe_always_raises(tokenizer, tmp_path):
    too_many = ProbeConfig(corpus=CORPUS, n_pairs=11)
    with pytest.raises(CorpusError) as error:
        trainer_of(tokenizer, tmp_path, [NeuronXACallback(too_many)]).train()
    assert "every language needs 11 usable pairs" in str(error.value)


def test_a_sink_that_fails_warns_once_and_loses_nothing_else(tokenizer, tmp_path, caplog):
    class Broken:
        def write(self, report):
            raise OSError("the disk is full")

    memory = MemorySink()
    callback = NeuronXACallback(CONFIG, every=2, sinks=[Broken(), memory])
    trainer_of(tokenizer, tmp_path, [callback]).train()
    warned = [r.getMessage() for r in caplog.records if "a sink failed" in r.getMessage()]
    assert warned == ["a sink failed, training goes on: Broken: OSError: the disk is full"]
    assert len(memory.reports) == len(read_reports(tmp_path)) == 4


def test_a_stop_rule_stops_the_run_and_says_why(tokenizer, tmp_path, capsys):
    callback = ScriptedCallback(
        CONFIG,
        lambda report: with_score(report, 1.0 if report.step >= 4 else 0.0),
        every=2,
        stop=StopRule.target(0.3),
    )
    trainer = trainer_of(tokenizer, tmp_path, [callback])
    trainer.train()
    assert trainer.state.global_step == 4
    assert "NeuronXA stops this run at step 4: " in capsys.readouterr().out


def test_a_stop_rule_on_what_is_not_measured_is_an_error_at_the_first_probe(tokenizer, tmp_path):
    callback = NeuronXACallback(CONFIG, stop=StopRule.target(0.3, metric="mexa"))
    with pytest.raises(ConfigError):
        trainer_of(tokenizer, tmp_path, [callback]).train()


def test_max_overhead_chooses_one_interval_and_keeps_it(tokenizer, tmp_path, capsys):
    # A probe of 0.05 s may take a fifth of the time of steps of 0.01 s: every 25 steps.
    callbacks = timed(CONFIG, step=0.01, probe=0.05, max_overhead=0.2)
    args = {"max_steps": 60, "logging_steps": 20}
    trainer = trainer_of(tokenizer, tmp_path, callbacks, args=args)
    trainer.train()
    assert trainer.state.stateful_callbacks["neuronxa_state"]["interval"] == 25
    assert "; with one every 25 steps, " in capsys.readouterr().out
    assert [report.step for report in read_reports(tmp_path)] == [0, 25, 50, 60]


def test_the_time_of_evaluations_and_probes_is_not_that_of_steps(tokenizer, tmp_path):
    callbacks = timed(CONFIG, step=0.01, probe=0.05, max_overhead=0.5)
    args = {"max_steps": 20, "eval_strategy": "steps", "eval_steps": 5}
    trainer_of(tokenizer, tmp_path, callbacks, args=args).train()
    steps, seconds = callbacks[-1].schedule.timed
    assert steps == 20
    assert seconds == pytest.approx(20 * 0.01)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every must be an integer of at least 1, got 0"),
        (
            {"on_error": "warm"},
            "unknown on_error: 'warm'; did you mean 'warn'? (known: warn, raise)",
        ),
        ({"max_overhead": 2}, "max_overhead must be between 0 and 1, got 2"),
        (
            {"config": 3},
            "config must be a ProbeConfig, a path to a TOML file, a ParallelCorpus or None, got"
            " int",
        ),
    ],
)
def test_bad_options_are_named(options, words):
    with pytest.raises(ConfigError) as error:
        NeuronXACallback(**options)
    assert str(error.value) == words


def test_a_missing_tokenizer_is_an_error_before_training(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)])
    trainer.callback_handler.processing_class = None
    with pytest.raises(ConfigError, match="a probe needs the model's tokenizer, got NoneType"):
        trainer.train()
