"""The runs of ``benchmarks/real_model/along.py`` on a tiny model, and their tables on the page."""

import json
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import llama, sentences, tokenizer_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, real):
    """Folders of a model and of data."""
    model, data = (tmp_path_factory.mktemp(name) for name in ("model", "data"))
    lines = sentences(260)
    (data / "flores_half").mkdir()
    texts = {
        code: [" ".join(f"{word}{code[:3]}" for word in line.split()) for line in lines]
        for code in real["along"].LANGUAGES
    }
    for code, each in {"eng_Latn": lines, **texts}.items():
        path = data / "flores_half" / f"{code}.txt"
        path.write_text("\n".join(each) + "\n", encoding="utf-8")
    topics = [f"topic {k % 3}" for k in range(len(lines))]
    (data / "flores_half_topics.txt").write_text("\n".join(topics), encoding="utf-8")
    tokenizer = tokenizer_of([*lines, *(line for each in texts.values() for line in each)])
    tokenizer.save_pretrained(model)
    llama(vocab_size=len(tokenizer), num_hidden_layers=16).save_pretrained(model)
    return model, data


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def prepared(real, folders, kind):
    model, tokenizer = real["models"].load(folders[0], "float32")
    along = real["along"]
    before = model.get_input_embeddings().weight.detach().clone()
    trained, lines = real["training"].prepare(
        kind, model, tokenizer, folders[1], along.LANGUAGES, along.MIDDLING, steps=6
    )
    return model, tokenizer, before, trained, lines


def test_a_repair_changes_the_input_of_the_damaged_tokens_alone(real, folders):
    model, tokenizer, before, trained, lines = prepared(real, folders, "rise")
    others = {name: p.detach().clone() for name, p in model.named_parameters()}
    own = trained.vocabulary.ids[trained.own]
    assert 0 < len(own) < len(trained.vocabulary.ids)
    assert (model.get_input_embeddings().weight[own] != before[own]).any(dim=1).all()
    assert torch.equal(model.lm_head.weight, others["lm_head.weight"])
    losses = [trained.step(*each) for each in real["training"].batches(tokenizer, lines, 6)]
    after = model.get_input_embeddings().weight
    assert losses[-1] != losses[0]
    rest = torch.ones(len(after), dtype=torch.bool)
    rest[own] = False
    assert torch.equal(after[rest], before[rest])
    assert not torch.equal(after[own], others["model.embed_tokens.weight"][own])
    for name, parameter in model.named_parameters():
        if name != "model.embed_tokens.weight":
            assert torch.equal(parameter, others[name])


def test_the_loss_of_a_step_is_that_of_the_model(real, folders):
    model, tokenizer, _, trained, lines = prepared(real, folders, "fall")
    # All tokens that the model knows, so that the softmax is the model's own.
    trained.vocabulary = real["training"].Vocabulary(torch.arange(len(tokenizer)))
    trained.rows = model.get_input_embeddings().weight.detach().clone()
    ids, mask = next(real["training"].batches(tokenizer, lines, 1))
    model.lm_head.weight.data.copy_(trained.rows)
    labels = ids.masked_fill(~mask, -100)
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask.long(), labels=labels).loss.item()
    assert trained.step(ids, mask) == pytest.approx(expected, rel=1e-4)


def test_a_run_keeps_every_checkpoint_and_the_undamaged_model(real, folders, tmp_path):
    real["along"].run(*folders, tmp_path, "rise", steps=2, every=1)
    assert [row["step"] for row in rows(tmp_path / "along_rise.jsonl")] == [0, 1, 2]
    assert len(rows(tmp_path / "along_undamaged.jsonl")) == 1
    chosen = rows(tmp_path / "along_rise_chosen.jsonl")
    assert [report["step"] for report in chosen] == [0, 1, 2]
    halves = real["along"].halves(folders[1])
    one, other = (set(halves[name].pairs["deu_Latn"]) for name in ("chosen", "held_out"))
    assert not one & other


def test_a_model_that_rests_has_the_same_numbers_at_every_checkpoint(real, folders, tmp_path):
    real["along"].run(*folders, tmp_path, "nothing", steps=4, every=1)
    found = rows(tmp_path / "along_nothing.jsonl")
    assert [row.pop("step") for row in found] == [0, 2, 4]
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_the_tables_of_runs_on_the_page_are_those_of_the_kept_results(real):
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8").splitlines()
    for lines in real["along_tables"].all_tables().values():
        assert len(lines) > 1
        assert [line for line in lines if line not in page] == []
