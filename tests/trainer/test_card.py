"""``model_card=True``: the scores of a run on its card, through all that writes the card."""

import logging
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model

from neuronxa_callback import NeuronXACallback, ProbeConfig, read_reports
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show.model_card import BEGIN, END, TASK
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.scripted import ScriptedCallback, failing_at, with_score
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)
STEPS = {"max_steps": 4, "logging_steps": 2}
BEST = {
    "eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1,
    "load_best_model_at_end": True, "metric_for_best_model": "eval_nasca",
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


def trained(tokenizer, folder, callback=None, model=None, **args):
    callback = callback or NeuronXACallback(CONFIG, every=2, model_card=True)
    trainer = trainer_of(tokenizer, folder, [callback], model, STEPS | args)
    trainer.train()
    return trainer


def card_of(folder):
    """The text of the card, and (metric, dataset part) -> value of our results."""
    text = (folder / "README.md").read_text(encoding="utf-8")
    results = ModelCard(text).data.eval_results or ()
    ours = [each for each in results if each.task_type == TASK]
    return text, {(r.metric_type, r.dataset_config): r.metric_value for r in ours}


def check(folder, step):
    """The card has one block, and it shows the report of a step."""
    (report,) = (each for each in read_reports(folder) if each.step == step)
    text, values = card_of(folder)
    assert text.count(BEGIN) == text.count(END) == 1
    assert f"at step {step}:" in text
    assert report.fingerprint["definition"]["digest"] in text
    assert values == {
        (metric, f"eng_Latn-{language or 'mean'}"): round(report.score(metric, language), 4)
        for metric, language in (
            ("nasca", None), ("navca", None), *(("nasca", code) for code in report.languages)
        )
    }  # fmt: skip
    return text


def test_the_card_shows_the_last_report_and_a_second_run_replaces_it(tokenizer, tmp_path):
    trained(tokenizer, tmp_path)
    check(tmp_path, 4)
    card = tmp_path / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nMy own words.\n", encoding="utf-8")
    trained(tokenizer, tmp_path, max_steps=6)
    assert check(tmp_path, 6).endswith("\nMy own words.\n")


def test_no_card_is_written_unless_asked(tokenizer, tmp_path):
    trained(tokenizer, tmp_path, NeuronXACallback(CONFIG, every=2))
    assert not (tmp_path / "README.md").exists()
    with pytest.raises(ConfigError, match="model_card must be true or false, got 'yes'"):
        NeuronXACallback(model_card="yes")


def test_the_card_shows_the_weights_that_were_loaded_as_the_best(tokenizer, tmp_path):
    callback = ScriptedCallback(
        CONFIG, lambda report: with_score(report, 0.9 if report.step == 2 else 0.1), model_card=True
    )
    trainer = trained(tokenizer, tmp_path, callback, **BEST)
    assert trainer.state.best_global_step == 2
    assert "at step 2:" in card_of(tmp_path)[0]


def test_the_scores_stay_when_the_trainer_writes_its_card(tokenizer, tmp_path):
    trainer = trained(tokenizer, tmp_path)
    trainer.create_model_card(model_name="mine", tags=["one"], language="de")
    text = check(tmp_path, 4)
    assert "### Training hyperparameters" in text
    data = ModelCard(text).data
    assert {*data.tags} == {"generated_from_trainer", "one"}
    assert (data.language, data.model_name) == (["de"], "mine")
    trainer.args.max_steps = 6
    trainer.train()
    check(tmp_path, 6)
    trainer.create_model_card()
    check(tmp_path, 6)


@pytest.fixture
def hub(monkeypatch):
    """The hub, of which only the network is replaced: folder texts of every upload."""
    from transformers import trainer as module

    uploads = []

    def upload_folder(*, folder_path, **options):
        card = Path(folder_path) / "README.md"
        uploads.append(card.read_text(encoding="utf-8") if card.exists() else "")
        job = Future()
        job.set_result(None)
        return job

    api = SimpleNamespace(
        upload_folder=upload_folder,
        create_repo=lambda name, **options: SimpleNamespace(repo_id=f"me/{name}"),
    )
    monkeypatch.setattr(module, "hf_api", lambda *args, **options: api)
    return uploads


@pytest.mark.parametrize("lora", [False, True])
def test_push_to_hub_takes_the_scores_along(tokenizer, tmp_path, hub, lora):
    model = llama()
    if lora:
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]))
    more = {"save_strategy": "steps", "save_steps": 2, "push_to_hub": True,
            "hub_model_id": "me/mine"}  # fmt: skip
    trainer = trained(tokenizer, tmp_path, model=model, **more)
    trainer.push_to_hub()
    text = check(tmp_path, 4)
    assert hub[-1] == text
    assert "name: mine" in text
    assert "### Training hyperparameters" in text
    assert ("library_name: peft" in text) is lora


def test_a_failure_never_costs_training_or_the_card_of_the_trainer(tokenizer, tmp_path, caplog):
    folder = tmp_path / "card"
    folder.mkdir()
    (folder / "README.md").mkdir()
    with caplog.at_level(logging.WARNING, "neuronxa_callback"):
        trainer = trained(tokenizer, folder)
    assert trainer.state.global_step == 4
    assert "the model card gets no scores: " in caplog.text
    caplog.clear()
    callback = ScriptedCallback(CONFIG, failing_at(4), every=2, model_card=True)
    with caplog.at_level(logging.WARNING, "neuronxa_callback"):
        trained(tokenizer, tmp_path / "probe", callback)
    assert not (tmp_path / "probe" / "README.md").exists()
    assert (
        "the model card gets no scores: ReportError: step 4, whose weights are kept, has no report"
        " of this run" in caplog.text
    )
