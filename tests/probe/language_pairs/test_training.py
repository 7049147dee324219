"""All pairs of languages in training: every so many probes, also after a resume."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, read_reports
from neuronxa_callback.history.history import History
from tests.helpers.probes import config_of
from tests.helpers.reports import make_report
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

CORPUS = parallel(10)
CONFIG = config_of(CORPUS, language_pairs_every=2)
SAVES = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8}


class KilledError(RuntimeError):
    pass


class KillAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KilledError


def trained(folder, config, *others, resume=False):
    callback = NeuronXACallback(config, every=2)
    trainer = trainer_of(tokenizer_for(CORPUS), folder, [callback, *others], args=SAVES)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def measured(folder):
    return [report.step for report in read_reports(folder) if report.language_pairs]


def test_every_second_probe_has_the_table_and_training_ends_in_the_same_bits(tmp_path, capsys):
    plain = trained(tmp_path / "plain", replace(CONFIG, language_pairs_every=0))
    assert measured(tmp_path / "plain") == []
    assert "all pairs" not in capsys.readouterr().out
    pairs = trained(tmp_path / "pairs", CONFIG)
    out = capsys.readouterr().out
    assert out.count("NeuronXA: all pairs of 3 languages: 1 besides those with the pivot") == 1
    assert measured(tmp_path / "pairs") == [0, 4, 8]
    for one, other in zip(
        read_reports(tmp_path / "plain"), read_reports(tmp_path / "pairs"), strict=True
    ):
        assert replace(other, language_pairs={}) == one
    weights = [trainer.model.state_dict() for trainer in (plain, pairs)]
    assert all(torch.equal(each, weights[1][name]) for name, each in weights[0].items())
    logged = [
        [{k: v for k, v in row.items() if not k.endswith(("runtime", "per_second"))} for row in log]
        for log in (plain.state.log_history, pairs.state.log_history)
    ]
    assert json.dumps(logged[0]) == json.dumps(logged[1])


def test_a_resumed_run_goes_on_counting_its_probes(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, replace(CONFIG, language_pairs_every=3), KillAt(5))
    trained(tmp_path, replace(CONFIG, language_pairs_every=3), resume=True)
    assert [report.step for report in read_reports(tmp_path)] == [0, 2, 4, 6, 8]
    assert measured(tmp_path) == [0, 6]


def test_a_history_counts_probes_and_never_for_zero():
    history = History()
    found = []
    for step in range(7):
        found.append([history.next_is_first_of(every) for every in (0, 1, 3)])
        history.append(make_report(step))
    assert found == [[False, True, step % 3 == 0] for step in range(7)]
