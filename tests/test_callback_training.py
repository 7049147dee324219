"""Training with the callback and without it ends in the same bits."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from neuronxa_callback import MemorySink, NeuronXACallback, ProbeConfig, read_reports
from tests.helpers.runs import SHELL, tokenizer_for, trainer_of
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


def everything_in(trainer):
    """Everything that a run changes: weights, optimizer, random numbers, losses."""
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
FAST = ("plain", "all", "lora")


@pytest.mark.parametrize(
    "setting",
    [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in SETTINGS],
)
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
        ends.append(everything_in(trainer))
        hooks = [m for m in trainer.model.modules() if m._forward_hooks or m._forward_pre_hooks]
        if name == "with":
            assert [report.step for report in memory.reports] == [0, 2, 4, 6]
            with_hooks = len(hooks)
        else:
            assert with_hooks == len(hooks)
    assert ends[0] == ends[1]
    assert (tokenizer.padding_side, tokenizer.backend_tokenizer.padding) == flags


WITHOUT = """
import sys

sys.modules |= dict.fromkeys(sys.argv[3].split(","))  # an import of these fails
from neuronxa_callback import NeuronXACallback, ProbeConfig
from neuronxa_callback.show.sinks import WandbSink
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

corpus = parallel(10)
sinks = [WandbSink()] if sys.argv[1] == "no run" else None
callback = NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=3, sinks=sinks)
args = {"report_to": [sys.argv[1]] if sinks is None else []}
trainer_of(tokenizer_for(corpus), sys.argv[2], [callback], args=args).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tracker", "absent", "warnings"),
    [
        ("tensorboard", "matplotlib,typer,plotly,wandb", 2),
        ("no run", "matplotlib,typer,plotly", 0),
    ],
)
def test_a_run_needs_no_pictures_no_command_line_and_no_run_of_wandb(
    tmp_path, tracker, absent, warnings
):
    command = [sys.executable, "-c", WITHOUT, tracker, str(tmp_path), absent]
    done = subprocess.run(command, capture_output=True, text=True, env=SHELL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [report.step for report in read_reports(tmp_path)] == [0, 3, 6]
    assert done.stderr.count("a picture is left out, its scores are logged") == warnings
    assert "a sink failed" not in done.stderr
    events = list(tmp_path.glob("runs/*/neuronxa/events.*"))
    assert len(events) == (tracker == "tensorboard")
