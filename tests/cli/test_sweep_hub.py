"""``neuronxa sweep`` over revisions of a model on the hub."""

import huggingface_hub
import pytest

from neuronxa_callback import AlignmentReport, Probe, ProbeConfig
from neuronxa_callback.history import read_reports
from tests.helpers.shell import is_hub_error
from tests.helpers.tiny import llama

REVISIONS = ("--revisions", "step10,step2", "--languages", "de", "--n-pairs", 10)


@pytest.fixture
def hub(tokenizer, tmp_path, monkeypatch):
    """A cache of the hub with two revisions of a model, as the hub's client writes it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    base = tmp_path / "hub" / "models--some--model"
    (base / "refs").mkdir(parents=True)
    for seed, revision in enumerate(("step2", "step10")):
        (base / "refs" / revision).write_text(f"{seed:040x}")
        snapshot = base / "snapshots" / f"{seed:040x}"
        llama(seed).save_pretrained(snapshot)
        tokenizer.save_pretrained(snapshot)
    return tmp_path


def test_revisions_of_the_hub_are_measured_by_their_steps(neuronxa, hub, tokenizer):
    code, out, _ = neuronxa("sweep", "some/model", *REVISIONS, "--json")
    swept = [AlignmentReport.from_json(line) for line in out.splitlines()]
    probe = Probe(ProbeConfig(languages=("deu_Latn",), n_pairs=10), tokenizer)
    assert code == 0
    assert swept == [probe.run(llama(0), 2), probe.run(llama(1), 10)]
    assert read_reports(hub / "some--model.sweep.jsonl") == swept
    _, out, _ = neuronxa("sweep", "some/model", *REVISIONS)
    assert out.count("measured before") == 2


def test_revisions_must_have_different_steps(neuronxa, hub):
    code, _, err = neuronxa("sweep", "some/model", "--revisions", "main")
    message = "neuronxa: a revision must end in its step, such as step1000, got 'main'\n"
    assert (code, err) == (2, message)
    code, _, err = neuronxa("sweep", "some/model", "--revisions", "a-1,b-1")
    message = "neuronxa: revisions must differ in their steps, got a-1, b-1\n"
    assert (code, err) == (2, message)


def test_an_unreachable_hub_is_reported_in_one_sentence(neuronxa, hub):
    assert is_hub_error(neuronxa("sweep", "no-such/model", *REVISIONS))
    assert not list(hub.glob("*.jsonl"))
