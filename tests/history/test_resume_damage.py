"""A saved state that is damaged, older or newer: one warning, and the history of the record."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from neuronxa_callback import NeuronXACallback, NeuronXAError, ProbeConfig, StopRule, read_reports
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.history import History
from neuronxa_callback.history.resume_state import STATE_SCHEMA, ResumeState
from tests.helpers.mutations import damaged_texts, nested, paths, replaced
from tests.helpers.reports import history_of, make_report
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

KEPT = Path(__file__).parents[1] / "data" / f"resume_state_{STATE_SCHEMA}.json"
SAVED = json.loads(KEPT.read_text(encoding="utf-8"))
NEWEST = {"holding": [], "stopped_by": "", "every": None, "max_overhead": None}
"""Entries that a kept state may lack."""
EVERY_TYPE = (-7, 0.5, "zz", None, True, [], {}, nested(100))


def test_a_kept_state_of_this_schema_is_read():
    state = ResumeState.from_dict(SAVED)
    assert [point.step for point in state.history.points] == [0, 2, 4]
    assert state.record == "runs/out/neuronxa/reports.jsonl"
    same = {"version": SAVED["version"], "digest": SAVED["digest"]}
    assert {**state.to_dict(), **same} == {**SAVED, **NEWEST}


def record_of(folder, *steps):
    """The record of a run below an output folder."""
    file = folder / "neuronxa" / "reports.jsonl"
    file.parent.mkdir()
    options = {"run": {"id": "abc"}, "layers": 2, "n_pairs": 10}
    lines = [make_report(step, **options).to_json() for step in steps]
    file.write_text("\n".join(["[" * 200_000, *lines]))
    return file


@pytest.mark.parametrize("path", list(paths(SAVED))[1:], ids=lambda path: "/".join(map(str, path)))
def test_damage_of_any_type_anywhere_is_one_warning_and_the_history_of_the_record(
    path, tmp_path, caplog
):
    record = record_of(tmp_path, 0, 10, 20)
    damaged = [replaced(SAVED, path, value) for value in EVERY_TYPE]
    damaged = [state for state in damaged if json.dumps(state) != json.dumps(SAVED)]
    assert len(damaged) >= len(EVERY_TYPE) - 1
    for state in damaged:
        caplog.clear()
        fresh = ResumeState.load(state, tmp_path, "", step=10)
        assert [point.step for point in fresh.history.points] == [0, 10]
        assert (fresh.run, fresh.record, fresh.chosen) == ("abc", str(record), None)
        (message,) = [entry.getMessage() for entry in caplog.records]
        assert message.startswith("the saved state of this callback is not used, its ")
        assert f"read from {record}" in message


OLDER = {"history": history_of(0.1).state(), "interval": None, "record": None, "stopped": None}


@pytest.mark.parametrize("state", [OLDER, {}, [], "x", 7, {**SAVED, "schema": STATE_SCHEMA + 1}])
def test_another_schema_and_no_record_give_one_warning_and_an_empty_history(
    state, tmp_path, caplog
):
    fresh = ResumeState.load(state, tmp_path, "", step=10)
    assert fresh.history.points == []
    (message,) = [entry.getMessage() for entry in caplog.records]
    assert "the history has 0 earlier probes" in message


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"points": None}, "a value has a wrong type"),
        ({"points": [None]}, "a value has a wrong type"),
        ({"queried": 7}, "a value has a wrong type"),
    ],
)
def test_a_damaged_history_is_refused_without_the_words_of_python(damage, reason):
    with pytest.raises(ConfigError) as error:
        History.from_state({**HISTORY.state(), **damage})
    assert str(error.value) == f"a saved history cannot be read: {reason}"
    state = HISTORY.state()
    del state["points"]
    with pytest.raises(ConfigError, match=r"^a saved history cannot be read: 'points' is missing$"):
        History.from_state(state)


HISTORY = history_of({"a": 0.2, "b": 0.3}, {"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 0.4})
HISTORY.best("nasca", ("a",))
HISTORY.window(2)


@settings(
    max_examples=2000, derandomize=True, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
@given(damaged_texts(json.loads(json.dumps(HISTORY.state()))))
def check_history(text):
    try:
        history = History.from_state(json.loads(text))
    except (NeuronXAError, ValueError, RecursionError):
        return
    # Without the digest, damage may pass; then every rule still gets an answer or a named error.
    try:
        history.append(make_report(50, {"a": 0.5, "b": 0.5}))
        history.state()
        StopRule.plateau(patience=1).reason(history)
        history.change("nasca", reference="best")
    except NeuronXAError:
        return


@pytest.mark.slow
def test_a_history_from_damaged_values_is_a_named_error():
    check_history()


def test_a_resume_from_a_damaged_checkpoint_continues_the_curve_of_the_record(tmp_path, caplog):
    corpus = parallel(10)
    config, tokenizer = ProbeConfig(corpus=corpus, n_pairs=10), tokenizer_for(corpus)
    args = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}
    trainer_of(tokenizer, tmp_path, [NeuronXACallback(config, every=2)], args=args).train()
    run = read_reports(tmp_path)[0].run["id"]
    file = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(file.read_text())
    state["stateful_callbacks"]["neuronxa_state"]["history"]["points"][0]["step"] = "zero"
    file.write_text(json.dumps(state))
    with (tmp_path / "neuronxa" / "reports.jsonl").open("a") as record:
        record.write("[" * 200_000 + "\n")
    again = NeuronXACallback(config, every=2)
    with caplog.at_level(logging.WARNING):
        trainer_of(tokenizer, tmp_path, [again], args=args).train(
            resume_from_checkpoint=str(file.parent)
        )
    assert [point.step for point in again.history.points] == [0, 2, 4]
    reports = read_reports(tmp_path)
    assert [(report.step, report.run["id"]) for report in reports] == [(k, run) for k in (0, 2, 4)]
    ours = [
        entry for entry in caplog.records if "saved state of this callback" in entry.getMessage()
    ]
    assert len(ours) == 1


def test_a_state_says_which_run_and_version_it_is_of():
    saved = ResumeState(History(), run="abc").to_dict()
    assert (saved["schema"], saved["run"]) == (STATE_SCHEMA, "abc")
    assert saved["version"].count(".") >= 1
    assert ResumeState.from_dict(json.loads(json.dumps(saved))).run == "abc"
    assert replace(ResumeState.from_dict(saved), run="x").to_dict()["digest"] != saved["digest"]
