"""The real Trainer with the callback: the same training bit by bit, and a curve that goes on."""

import json
import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from neuronxa_callback import AlignmentReport, NeuronXACallback, ProbeConfig, StopRule
from neuronxa_callback.errors import ConfigError, CorpusError
from neuronxa_callback.history import schedule
from neuronxa_callback.show.sinks import MemorySink
from tests.helpers.runs import TEXTS, tokenizer_for, trainer_of
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


def records(folder):
    lines = (Path(folder) / "neuronxa" / "reports.jsonl").read_text().splitlines()
    return [AlignmentReport.from_json(line) for line in lines]


def remembered(trainer):
    """Everything that training is made of: weights, optimizer, random numbers, losses."""
    optimizer = trainer.optimizer.state_dict()["state"]
    return {
        "weights": {k: v.tolist() for k, v in trainer.model.state_dict().items()},
        "optimizer": {
            str(k): {n: torch.as_tensor(x).tolist() for n, x in v.items()}
            for k, v in optimizer.items()
        },
        "torch": torch.get_rng_state().tolist(),
        "python": repr(random.getstate()),
        "numpy": repr(np.random.get_state()),
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
    }


def lora(model):
    from peft import LoraConfig, get_peft_model

    targets = ["gate_proj", "down_proj", "q_proj"]
    return get_peft_model(model, LoraConfig(r=2, lora_dropout=0.1, target_modules=targets))


SETTINGS = {
    "plain": {},
    "workers": {"dataloader_num_workers": 2},
    "accumulation": {"gradient_accumulation_steps": 2},
    "bf16": {"bf16": True},
    "checkpointing": {"gradient_checkpointing": True},
    "compile": {"torch_compile": True, "torch_compile_backend": "aot_eager"},
    "lora": {},
    "all": {
        "bf16": True,
        "gradient_checkpointing": True,
        "gradient_accumulation_steps": 2,
    },
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_training_ends_in_the_same_bits_with_and_without(setting, tokenizer, tmp_path):
    ends = []
    flags = tokenizer.padding_side, tokenizer.backend_tokenizer.padding
    for name in ("with", "without"):
        torch._dynamo.reset()
        model = llama(attention_dropout=0.2)
        if setting == "lora":
            torch.manual_seed(0)
            model = lora(model)
        memory = MemorySink()
        callbacks = [NeuronXACallback(CONFIG, every=2, sinks=[memory])] if name == "with" else []
        trainer = trainer_of(
            tokenizer, tmp_path / name, callbacks, model=model, args=SETTINGS[setting]
        )
        trainer.train()
        ends.append(remembered(trainer))
        hooks = [m for m in trainer.model.modules() if m._forward_hooks or m._forward_pre_hooks]
        if name == "with":
            assert [report.step for report in memory.reports] == [0, 2, 4, 6]
            with_hooks = len(hooks)
        else:
            assert with_hooks == len(hooks)
    assert ends[0] == ends[1]
    assert (tokenizer.padding_side, tokenizer.backend_tokenizer.padding) == flags


def test_scores_stand_in_the_log_history_and_in_the_record(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    trainer.train()
    rows = [row for row in trainer.state.log_history if "neuronxa/nasca/mean" in row]
    reports = records(tmp_path)
    assert [row["step"] for row in rows] == [report.step for report in reports] == [0, 3, 6]
    for row, report in zip(rows, reports, strict=True):
        assert row["neuronxa/nasca/deu_Latn"] == report.score("nasca", "deu_Latn")
    assert reports[1].run["loss"] is not None
    json.dumps(trainer.state.log_history)


def test_the_model_measured_is_the_model_of_the_step(tokenizer, tmp_path):
    from neuronxa_callback import Probe

    class Watch(TrainerCallback):
        def __init__(self):
            self.found = {}

        def on_step_end(self, args, state, control, model=None, **kwargs):
            self.found[state.global_step] = Probe(CONFIG, tokenizer).run(model).metrics

    watch = Watch()
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=1), watch])
    trainer.train()
    for report in records(tmp_path)[1:]:
        assert report.metrics == watch.found[report.step]


EVALUATING = {"eval_strategy": "steps", "eval_steps": 2}


def test_every_evaluation_carries_the_scores(tokenizer, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen.append((state.global_step, {k: v for k, v in metrics.items() if "nasca" in k}))

    callbacks = [NeuronXACallback(CONFIG), Watch()]
    trainer_of(tokenizer, tmp_path, callbacks, args=EVALUATING).train()
    reports = {report.step: report for report in records(tmp_path)}
    assert [step for step, _ in seen] == [2, 4, 6]
    assert sorted(reports) == [0, 2, 4, 6]
    for step, metrics in seen:
        assert metrics == {
            "eval_nasca": reports[step].score("nasca"),
            "eval_nasca_deu_Latn": reports[step].score("nasca", "deu_Latn"),
            "eval_nasca_fra_Latn": reports[step].score("nasca", "fra_Latn"),
        }


def test_several_evaluation_sets_carry_them_once_a_step(tokenizer, tmp_path):
    seen = []

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen.append((state.global_step, "eval_nasca" in metrics))

    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS[:4]]
    trainer_of(
        tokenizer,
        tmp_path,
        [NeuronXACallback(CONFIG), Watch()],
        args=EVALUATING,
        eval_dataset={"a": rows, "b": rows},
    ).train()
    assert seen == [(2, True), (2, False), (4, True), (4, False), (6, True), (6, False)]
    assert [report.step for report in records(tmp_path)] == [0, 2, 4, 6]


def scripted(callback, scores):
    """The callback with a score per step as planned, to see what the Trainer makes of it."""
    whole = callback._measure

    def measure(step, **kwargs):
        report = whole(step, **kwargs)
        n, planned = report.n_pairs, scores[step]
        hits = (1 << round(planned * n)) - 1
        for each in report.metrics.values():
            for language in report.languages:
                each.hits[language] = (hits,) * len(each.layers)
        return report

    callback._measure = measure
    return callback


SCORES = {0: 0.0, 2: 0.3, 4: 0.8, 6: 0.5, 8: 0.4, 10: 0.3, 12: 0.2}


def test_the_best_checkpoint_by_alignment_is_loaded_at_the_end(tokenizer, tmp_path):
    best = {
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_nasca",
    }
    callback = scripted(NeuronXACallback(CONFIG), SCORES)
    trainer = trainer_of(tokenizer, tmp_path, [callback], args=EVALUATING | best)
    trainer.train()
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-4")
    assert trainer.state.best_metric == 0.8


def test_early_stopping_of_transformers_stops_on_it(tokenizer, tmp_path):
    best = {
        "save_strategy": "steps",
        "save_steps": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_nasca",
        "max_steps": 12,
    }
    callbacks = [scripted(NeuronXACallback(CONFIG), SCORES), EarlyStoppingCallback(2)]
    trainer = trainer_of(tokenizer, tmp_path, callbacks, args=EVALUATING | best)
    trainer.train()
    assert trainer.state.global_step == 8


def test_a_second_train_is_a_curve_of_its_own(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    trainer.train()
    first = records(tmp_path)
    trainer.train()
    assert [report.step for report in records(tmp_path)] == [0, 3, 6]
    assert records(tmp_path) != first
    assert len(list((tmp_path / "neuronxa").glob("reports*.jsonl"))) == 2


def test_evaluate_outside_of_training_carries_the_scores_and_adds_no_point(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG, every=3)])
    assert "eval_nasca" in trainer.evaluate()
    trainer.train()
    before = records(tmp_path)
    metrics = trainer.evaluate()
    assert metrics["eval_nasca"] == before[-1].score("nasca")
    assert records(tmp_path) == before


def breaking(callback, steps):
    whole = callback._measure

    def measure(step, **kwargs):
        probe = callback._probe
        if step in steps:
            callback._probe = None
            callback.config = "not a configuration"
        try:
            return whole(step, **kwargs)
        finally:
            callback._probe, callback.config = callback._probe or probe, CONFIG

    callback._measure = measure
    return callback


def test_a_probe_that_fails_in_mid_run_is_one_warning_and_nan(tokenizer, tmp_path, caplog):
    seen = {}

    class Watch(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            seen[state.global_step] = metrics["eval_nasca"]

    callback = breaking(NeuronXACallback(CONFIG), steps=(2, 4))
    trainer_of(tokenizer, tmp_path, [callback, Watch()], args=EVALUATING).train()
    assert math.isnan(seen[2])
    assert math.isnan(seen[4])
    assert not math.isnan(seen[6])
    assert [report.step for report in records(tmp_path)] == [0, 6]
    said = [r.getMessage() for r in caplog.records if "a NeuronXA probe failed" in r.getMessage()]
    assert len(said) == 1


def test_on_error_raise_ends_the_run(tokenizer, tmp_path):
    callback = breaking(NeuronXACallback(CONFIG, on_error="raise", every=2), steps=(4,))
    with pytest.raises(AttributeError):
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
    said = [r.getMessage() for r in caplog.records if "a sink failed" in r.getMessage()]
    assert said == ["a sink failed, training goes on: Broken: OSError: the disk is full"]
    assert len(memory.reports) == len(records(tmp_path)) == 4


def test_a_stop_rule_stops_the_run_and_says_why(tokenizer, tmp_path, capsys):
    callback = scripted(
        NeuronXACallback(CONFIG, every=2, stop=StopRule.target(0.3)),
        {0: 0.0, 2: 0.0, 4: 1.0, 6: 1.0},
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
    args = {"max_steps": 60, "save_strategy": "steps", "save_steps": 30}
    callback = NeuronXACallback(CONFIG, max_overhead=0.2)
    trainer = trainer_of(tokenizer, tmp_path, [callback], args=args)
    trainer.train()
    interval = trainer.state.stateful_callbacks["neuronxa_state"]["interval"]
    assert interval >= 1
    assert f"probes every {interval} steps" in capsys.readouterr().out
    steps = [report.step for report in records(tmp_path)]
    expected = [step for step in range(21, 61) if step % interval == 0]
    assert steps == sorted({0, 60, *expected} | ({20} if 20 % interval == 0 else set()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every must be a number of steps of at least 1, got 0"),
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
def test_bad_options_are_one_clear_sentence(options, words):
    with pytest.raises(ConfigError) as error:
        NeuronXACallback(**options)
    assert str(error.value) == words


def test_no_tokenizer_is_said_before_training(tokenizer, tmp_path):
    trainer = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)])
    trainer.callback_handler.processing_class = None
    with pytest.raises(ConfigError, match="a probe needs the model's tokenizer, got NoneType"):
        trainer.train()


def test_the_time_of_evaluations_and_probes_is_not_that_of_steps(tokenizer, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    class Slow(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            now[0] += 0.01

        def on_evaluate(self, args, state, control, **kwargs):
            now[0] += 1

    callback = NeuronXACallback(CONFIG, max_overhead=0.5)
    args = {"max_steps": 20, "eval_strategy": "steps", "eval_steps": 2}
    trainer_of(tokenizer, tmp_path, [Slow(), callback], args=args).train()
    steps, seconds = callback.pace.trained
    assert steps == 20
    assert seconds == pytest.approx(20 * 0.01)


def test_weights_that_an_optimizer_swaps_are_never_mixed_in_one_curve(tokenizer, tmp_path):
    args = {"optim": "schedule_free_adamw", "eval_strategy": "steps", "eval_steps": 2}
    args |= {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant"}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], args=args).train()
    args["max_steps"] = 8
    again = trainer_of(tokenizer, tmp_path, [NeuronXACallback(CONFIG)], args=args)
    again.train(resume_from_checkpoint=True)
    assert [report.step for report in records(tmp_path)] == [0, 2, 4, 6, 8]
    modes = [report.fingerprint["model"]["optimizer_weights"] for report in records(tmp_path)]
    assert modes == ["training"] * 5
