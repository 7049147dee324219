"""Alerts of a callback: terminal, record, W&B, and over a resume."""

import pytest

from neuronxa_callback import ParallelCorpus, StopRule
from neuronxa_callback.history import read_reports
from tests.helpers.output import wandb_file
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.scripted import ScriptedCallback, with_score
from tests.helpers.shell import CONFIG

LOW = {3, 4, 5, 6, 9, 10}
RULES = (
    StopRule.collapse(0.3, reference="first", action="alert", name="fell"),
    StopRule.collapse(0.4, metric="navca", languages="worst", action="alert"),
)
SECOND = "collapse 0.4 navca worst best"


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(ParallelCorpus.builtin(languages=CONFIG.languages))


def train(tokenizer, folder, resume=None, rules=RULES, **more):
    callback = ScriptedCallback(
        CONFIG,
        lambda report: with_score(report, 0.0 if report.step in LOW else 1.0),
        every=1,
        stop=rules,
    )
    args = {"max_steps": 11, "save_strategy": "steps", "save_steps": 5, **more}
    trainer_of(tokenizer, folder, [callback], args=args).train(resume_from_checkpoint=resume)
    return [
        (report.step, [alert["rule"] for alert in report.run["alerts"]])
        for report in read_reports(folder)
        if "alerts" in report.run
    ]


def test_an_event_is_one_line_one_entry_and_one_alert_in_wandb(
    tokenizer, tmp_path, monkeypatch, capsys
):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    both = ["fell", SECOND]
    assert train(tokenizer, tmp_path / "run", report_to=["wandb"]) == [(3, both), (9, both)]
    wandb.teardown()
    out = capsys.readouterr().out
    assert out.count("NeuronXA alert at step ") == 4
    assert out.count("NeuronXA alert at step 9 (fell): nasca (mean over languages) fell") == 1
    (path,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    alerts = [r.alert for r in wandb_file.records(path) if r.WhichOneof("record_type") == "alert"]
    assert [alert.title for alert in alerts] == [f"NeuronXA: {name}" for name in both * 2]
    assert all(alert.wait_duration == 1 for alert in alerts)
    assert [alert.text.split(":")[0] for alert in alerts] == ["step 3"] * 2 + ["step 9"] * 2


def test_a_resume_in_an_event_does_not_alert_again(tokenizer, tmp_path, capsys):
    train(tokenizer, tmp_path, max_steps=5)
    capsys.readouterr()
    found = train(tokenizer, tmp_path, resume=True)
    assert [step for step, _ in found] == [3, 9]
    assert capsys.readouterr().out.count("NeuronXA alert at step ") == 2


def test_an_alert_beside_a_stop(tokenizer, tmp_path, capsys):
    rules = (RULES[0], StopRule.collapse(0.5, metric="navca", name="stops"))
    assert train(tokenizer, tmp_path, rules=rules) == [(3, ["fell"])]
    assert "NeuronXA stops this run at step 3: navca (mean over" in capsys.readouterr().out


@pytest.mark.parametrize("has_record", [True, False])
def test_a_rule_that_is_new_at_a_resume_knows_the_best_probe_of_the_record(
    has_record, tokenizer, tmp_path, caplog
):
    first, second = CONFIG.load().languages
    rule = StopRule.collapse(0.2, languages=first, action="alert", name="new")

    def run(folder, rules, max_steps, resume=None):
        # The mean over languages never moves.
        script = {1: 1.0, 7: 0.3, 8: 0.3}
        callback = ScriptedCallback(
            CONFIG,
            lambda report: with_score(
                report, {first: (one := script.get(report.step, 0.6)), second: 1 - one}
            ),
            every=1,
            stop=rules,
        )
        args = {"max_steps": max_steps, "save_strategy": "steps", "save_steps": 6}
        trainer_of(tokenizer, folder, [callback], args=args).train(resume_from_checkpoint=resume)
        return [
            (r.step, r.run["alerts"][0]["reason"])
            for r in read_reports(folder)
            if "alerts" in r.run
        ]

    run(tmp_path / "late", None, 6)
    if not has_record:
        (tmp_path / "late" / "neuronxa" / "reports.jsonl").unlink()
    late = run(tmp_path / "late", rule, 8, resume=True)
    whole = run(tmp_path / "whole", rule, 8)
    assert [step for step, _ in whole] == [7]
    assert late == (whole if has_record else [])
    warned = (
        "the rule new is new in this run, and its best score counts from step 6 on" in caplog.text
    )
    assert warned != has_record
