"""The blocks of docs/watch.md, run beside a real training."""

import json
import re
import shlex
from pathlib import Path

import pytest

from neuronxa_callback import ParallelCorpus, read_reports
from tests.helpers import shell
from tests.helpers.runs import tokenizer_for, trainer_of

TEXT = (Path(__file__).parents[2] / "docs" / "watch.md").read_text(encoding="utf-8")
OUTSIDE, ALERTS = re.findall(r"```python\n(.*?)```", TEXT, re.S)
UNTIL, STOPPING = (shlex.split(block)[1:] for block in re.findall(r"```bash\n(.*?)```", TEXT, re.S))
MORE = (*shell.OPTIONS, "--poll", "0.01")
neuronxa = pytest.fixture(shell.neuronxa)


def run(code):
    names = {"__name__": "a_block"}
    exec(compile(code, "watch.md", "exec"), names)
    return names


def test_a_watch_scores_a_run_and_its_verdict_ends_the_next(tmp_path, monkeypatch, neuronxa):
    monkeypatch.chdir(tmp_path)
    tokenizer = tokenizer_for(ParallelCorpus.builtin(languages=shell.LANGUAGES))
    saves = {"save_strategy": "steps", "save_steps": 2}
    trainer_of(tokenizer, "runs/out", args=saves).train()
    code, out, _ = neuronxa(*UNTIL, *MORE)
    assert code == 0
    assert out.count("NeuronXA step ") == 3
    assert [each.step for each in read_reports("runs/out/neuronxa/sweep.jsonl")] == [2, 4, 6]
    code, out, _ = neuronxa(*STOPPING, *MORE)
    assert code == 0
    assert json.loads(Path("runs/out/stop").read_text())["step"] == 6
    callback = run(OUTSIDE)["StopFromOutside"]("runs/out/stop")
    trainer = trainer_of(tokenizer, "runs/next", [callback], args=saves)
    trainer.train()
    assert trainer.state.global_step == 2


def test_the_rules_of_the_callback():
    rules = run(ALERTS)["callback"].stop
    assert [rule.action for rule in rules] == ["stop", "alert", "alert"]
