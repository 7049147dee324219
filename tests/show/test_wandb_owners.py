"""W&B runs that somebody else drives, and hooks of ``wandb.watch``."""

import pytest

from neuronxa_callback import NeuronXACallback, ProbeConfig
from neuronxa_callback.show.sinks import WandbSink
from tests.helpers.output import wandb_file
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import parallel

CORPUS = parallel(8)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=8, diagnostics=())


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_MODE", "offline")

    def make(**options):
        callback = NeuronXACallback(CONFIG, every=1, **options)
        args = {"max_steps": 5, "report_to": []}
        return trainer_of(tokenizer_for(CORPUS), tmp_path / "out", [callback], args=args)

    return make


def history(tmp_path):
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    (file,) = folder.glob("*.wandb")
    return wandb_file.history(file)


def test_no_row_of_a_run_that_somebody_else_drives_is_lost(trainer, tmp_path, caplog):
    import wandb

    with wandb.init(project="p") as run:
        trainer().train()
        for epoch in range(1, 5):
            run.log({"own": epoch}, step=epoch)
    wandb.teardown()
    assert [row["own"] for row in history(tmp_path) if "own" in row] == [1, 2, 3, 4]
    assert "report_to does not name wandb" in caplog.text


def test_the_owner_of_a_run_may_ask_for_the_scores(trainer, tmp_path):
    import wandb

    with wandb.init(project="p"):
        trainer(sinks=[WandbSink()]).train()
    wandb.teardown()
    steps = [row["train/global_step"] for row in history(tmp_path)]
    assert steps == [0, 1, 2, 3, 4, 5]


def test_hooks_of_wandb_watch_see_no_forward_of_a_probe(trainer, tmp_path):
    import wandb

    calls = []

    def hook(module, args, output):
        calls.append(module.training)

    hook.__module__ = "wandb.integration.torch.wandb_torch"
    run = trainer()
    layer = run.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(hook)
    other = layer.register_forward_hook(lambda *_: None)
    run.train()
    assert calls == [True] * 5
    assert [*layer._forward_hooks][-1] == other.id
    assert wandb.run is None
