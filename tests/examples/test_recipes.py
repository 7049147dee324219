"""The blocks of docs/recipes.md, run with the real packages where they are installed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig, read_reports
from tests.helpers.reports import make_report
from tests.helpers.runs import SHELL, TEXTS, tokenizer_for, trainer_of
from tests.helpers.tiny import llama, tokenizer_of

TEXT = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.S)


def block(text):
    (code,) = (code for code in BLOCKS if text in code)
    return code


def run(code, **names):
    names["__name__"] = "a_recipe"
    exec(compile(code, "recipes.md", "exec"), names)
    return names


def test_the_long_table(tmp_path):
    record = tmp_path / "reports.jsonl"
    reports = [make_report(step) for step in (0, 5)]
    record.write_text("".join(f"{each.to_json()}\n" for each in reports), encoding="utf-8")
    rows = run(block("rows ="), record=record)["rows"]
    assert rows == [row for each in reports for row in each.rows()]


class ModeGPT(torch.nn.Module):
    """Its signature does not show how a probe should call it."""

    def __init__(self):
        super().__init__()
        self.llm = llama()

    def forward(self, ids, mode):
        assert mode == "text"
        return self.llm(ids)


def test_a_model_and_a_loop_of_ones_own():
    corpus = ParallelCorpus.builtin(languages=("deu_Latn",))
    config = ProbeConfig(corpus=corpus, n_pairs=4)
    names = {"config": config, "tokenizer": tokenizer_for(corpus), "model": ModeGPT(), "step": 3}
    names = run(block("run_model"), **names)
    assert names["report"].step == 3
    assert names["report"].fingerprint["model"]["forward"] == "run_model"
    pytest.importorskip("lightning", reason="Lightning is not installed")
    before = names["report"]
    assert run(block("Fabric"), **names)["report"].metrics == before.metrics


def test_the_commands_for_a_run(tmp_path, monkeypatch):
    pytest.importorskip("plotly", reason="the page needs plotly")
    monkeypatch.chdir(tmp_path)
    languages = ("deu_Latn",)
    corpus = ParallelCorpus.builtin(languages=languages)
    texts = [text for pair in corpus.pairs["deu_Latn"] for text in pair]
    callback = NeuronXACallback(ProbeConfig(languages=languages, n_pairs=10), every=3)
    saves = {"save_strategy": "steps", "save_steps": 3}
    trainer_of(tokenizer_of(texts + TEXTS), tmp_path / "runs/out", [callback], args=saves).train()
    lines = [line for line in TEXT.splitlines() if line.startswith("neuronxa ")]
    assert len(lines) == 3
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        done = subprocess.run(
            [sys.executable, "-m", "neuronxa_callback", *words],
            capture_output=True, text=True, timeout=120, env=SHELL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "alignment.html").exists()


def test_axolotl_gets_the_callback_from_a_plugin(tmp_path, monkeypatch):
    base = pytest.importorskip("axolotl.integrations.base", reason="axolotl is not installed")
    (tmp_path / "neuronxa_plugin.py").write_text(block("axolotl"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    manager = base.PluginManager.get_instance()
    manager.register(re.search(r"plugins:\n  - (\S+)", TEXT)[1])
    tokenizer = tokenizer_of(TEXTS)
    trainer = trainer_of(tokenizer, "unused", model=llama())
    (callback,) = manager.add_callbacks_post_trainer({}, trainer)
    assert isinstance(callback, NeuronXACallback)
    assert callback.schedule.every == 500
    assert callback.tokenizer is tokenizer


def test_llama_factory_takes_callbacks():
    tuner = pytest.importorskip("llamafactory.train.tuner", reason="LLaMA-Factory is missing")
    import inspect

    assert "callbacks" in inspect.signature(tuner.run_exp).parameters
    run(block("run_exp"))


def test_a_stop_rule_and_an_order_of_callbacks():
    names = run(block("StopRule"))
    assert isinstance(names["callbacks"][0], NeuronXACallback)
    assert names["alarm"].stop


def test_the_option_of_the_model_card():
    names = run(block("model_card="), NeuronXACallback=NeuronXACallback, config=ProbeConfig())
    assert names["carded"].model_card


def test_a_probe_without_a_trainer(capsys):
    names = run(block("short ="), tokenizer=tokenizer_for(ParallelCorpus.builtin()), model=llama())
    assert names["report"].step == 100
    run(block("class Print"), NeuronXACallback=NeuronXACallback)["Print"]().write(names["report"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("100 0.")


ROWS = {
    "texts": [{"text": text} for text in TEXTS[:4]],
    "preferences": [{"prompt": TEXTS[0], "chosen": f" {a}", "rejected": f" {b}"}
                    for a, b in zip(TEXTS[1:5], TEXTS[5:9], strict=True)],
    "prompts": [{"prompt": text} for text in TEXTS[:4]],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["SFT", "DPO", "GRPO"])
def test_a_trainer_of_trl(name, tmp_path, monkeypatch):
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    import wandb

    monkeypatch.chdir(tmp_path)
    config = getattr(trl, f"{name}Config")
    small = {"max_steps": 1, "per_device_train_batch_size": 2, "bf16": False}
    monkeypatch.setattr(
        trl, f"{name}Config", lambda *args, **given: config(*args, **given, **small)
    )
    corpus = ParallelCorpus.builtin(languages=("deu_Latn",))
    names = {key: datasets.Dataset.from_list(rows) for key, rows in ROWS.items()}
    # From a folder: DPO loads its reference model from where the model came from.
    llama().save_pretrained("model")
    run(
        block(f"import {name}Config"),
        config=ProbeConfig(corpus=corpus, n_pairs=4),
        model=LlamaForCausalLM.from_pretrained("model"),
        tokenizer=tokenizer_for(corpus),
        reward=lambda completions, **_: [float(len(text)) for text in completions],
        NeuronXACallback=NeuronXACallback,
        **names,
    )
    wandb.finish()
    reports = read_reports(tmp_path / "out" / name.lower())
    assert [report.step for report in reports] == [0, 1]


def test_unsloth_takes_the_callback():
    pytest.importorskip("unsloth", reason="Unsloth is not installed")
    run(block("unsloth"))


def test_every_block_has_a_test():
    tests = Path(__file__).read_text(encoding="utf-8")
    marks = re.findall(r'block\(f?"([^"]+)"\)', tests)
    marks += [f"import {name}Config" for name in ("SFT", "DPO", "GRPO")]
    assert [code for code in BLOCKS if not any(mark in code for mark in marks)] == []
