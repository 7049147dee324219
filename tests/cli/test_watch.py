"""``sweep --watch`` in this process: layouts, checkpoints that are not whole, ends, verdicts."""

import json
import os
import shutil

import pytest
from safetensors.torch import load_file

from neuronxa_callback.cli.checkpoints.folders import folders_of_steps, incomplete
from neuronxa_callback.cli.checkpoints.rule_options import parse_rule, parse_rules
from neuronxa_callback.cli.checkpoints.sweep import Sweep
from neuronxa_callback.cli.checkpoints.watch import Watch, WatchOptions
from neuronxa_callback.cli.load_model import LoadOptions
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history import read_reports
from neuronxa_callback.show.record_lock import RecordLock
from tests.helpers.shell import LANGUAGES
from tests.helpers.tiny import llama

OVERRIDES = {"languages": LANGUAGES, "n_pairs": 10, "batch_tokens": 512}


class Script:
    """A wait that does the next thing of a list; the end of the list ends the watch."""

    def __init__(self, stop_file, *actions):
        self.stop_file, self.actions, self.looks = stop_file, list(actions), 0

    def __call__(self):
        self.looks += 1
        assert self.looks < 60, "the watch does not end"
        if self.actions:
            self.actions.pop(0)()
        else:
            self.stop_file.touch()


@pytest.fixture
def world(saved, tmp_path):
    """Writes checkpoints, and watches them while a script runs."""

    class World:
        run, stop_file, said = tmp_path / "run", tmp_path / "stop", []
        record = run / "neuronxa" / "sweep.jsonl"

        def save(self, name, seed=0, **options):
            folder = self.run / name
            shutil.copytree(saved, folder, dirs_exist_ok=True)
            (folder / "model.safetensors").unlink(missing_ok=True)
            llama(seed).save_pretrained(folder, **options)
            return folder

        def watch(self, *actions, **options):
            script = Script(self.stop_file, *actions)
            options = WatchOptions(**{"stop_file": self.stop_file, **options})
            watch = Watch(
                self.run,
                self.record,
                lambda found: Sweep(str(self.run), found, OVERRIDES, LoadOptions(), self.record),
                options,
                script,
                say=self.said.append,
            )
            return [report.step for report in watch.new_reports()]

    return World()


def cut(file, size=1000):
    """Shortens a file; returns what writes the rest."""
    whole = file.read_bytes()
    file.write_bytes(whole[:size])
    return lambda: file.write_bytes(whole)


LAYOUTS = (
    "checkpoint-{}",
    "step_{}",
    "step{}",
    "iter_{:07d}/hf",
    "global_step_{}/actor",
    "ckpt-{}",
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_trainers_are_in_order_of_steps(layout, world):
    folders = {step: world.save(layout.format(step)) for step in (10, 9, 100)}
    (world.run / "logs-7").mkdir()
    found = {each.step: each.location for each in folders_of_steps(world.run)}
    assert list(found) == [9, 10, 100]
    assert found == {step: str(folder) for step, folder in folders.items()}
    assert [incomplete(folder) for folder in folders.values()] == [None] * 3


def test_two_folders_of_one_step_are_refused(world):
    world.save("step_5")
    world.save("checkpoint-5")
    with pytest.raises(ConfigError, match="step 5 has checkpoint-5 and step_5"):
        folders_of_steps(world.run)


def test_models_in_subfolders_are_scored_in_order(world):
    for step in (10, 9, 100):
        world.save(f"iter_{step:07d}/hf", seed=step)
    assert world.watch() == [9, 10, 100]
    assert len({report.score("nasca") for report in read_reports(world.record)}) > 1


def test_shards_are_scored_when_their_index_is_there(world):
    folder = world.save("step_4", max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 2
    index = folder / "model.safetensors.index.json"
    write, text = index.write_text, index.read_text()
    index.unlink()
    nothing = lambda: None  # noqa: E731
    assert world.watch(nothing, lambda: write(text), nothing, nothing) == [4]
    whole = world.save("step_5")
    assert set(load_file(whole / "model.safetensors"))
    world.stop_file.unlink()
    assert world.watch() == [5]
    four, five = read_reports(world.record)
    assert four == five.__class__.from_json(json.dumps({**json.loads(five.to_json()), "step": 4}))


@pytest.mark.parametrize("later", [False, True])
def test_a_half_written_one_is_named_once_and_left_out_until_it_is_whole(later, world):
    finish = cut(world.save("checkpoint-2") / "model.safetensors")
    world.save("checkpoint-3")
    actions = [lambda: None] * 6 + ([finish] if later else [])
    assert world.watch(*actions, lambda: None) == ([3, 2] if later else [3])
    assert [report.step for report in read_reports(world.record)] == ([2, 3] if later else [3])
    (said,) = world.said
    assert said.startswith("NeuronXA: step 2 is left out: ")
    assert str(world.run / "checkpoint-2") in said


def test_one_that_grows_is_never_scored_and_later_ones_wait_for_it(world):
    file = world.save("checkpoint-2") / "model.safetensors"
    whole = file.read_bytes()
    world.save("checkpoint-3")
    pieces = [lambda n=n: file.write_bytes(whole[:n]) for n in range(1000, 9000, 1000)]
    finish = lambda: file.write_bytes(whole)  # noqa: E731
    assert world.watch(*pieces, finish) == [2, 3]
    assert world.said == []


@pytest.mark.parametrize("damage", ["config.json", "model.safetensors"])
def test_a_folder_without_a_part_is_incomplete(damage, world):
    folder = world.save("checkpoint-2")
    assert incomplete(folder) is None
    (folder / damage).unlink()
    assert str(folder) in incomplete(folder)


def test_weights_that_do_not_load_are_tried_twice_and_left_out(world, saved):
    folder = world.save("checkpoint-2")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 9}))
    world.save("checkpoint-4")
    assert world.watch() == [4]
    (said,) = world.said
    assert said.startswith("NeuronXA: step 2 is left out: ")


def test_a_second_watch_goes_on_and_measures_only_what_changed(world):
    for step in (1, 2):
        world.save(f"step_{step}", seed=step)
    assert world.watch(until_step=2, stop_file=None) == [1, 2]
    assert world.watch(until_step=2, stop_file=None) == []
    file = world.save("step_1", seed=7) / "model.safetensors"
    os.utime(file, (1, 1))
    shutil.rmtree(world.run / "step_2")
    assert world.watch(until_step=2, stop_file=None) == [1]
    assert [report.step for report in read_reports(world.record)] == [1, 2]


def test_a_record_has_one_writer(world, tmp_path):
    world.record.parent.mkdir(parents=True)
    lock = RecordLock.acquire(world.record, "another")
    with pytest.raises(ConfigError, match=r"one process at a time can write .*sweep\.jsonl"):
        world.watch()
    lock.close()


def test_a_stop_rule_writes_its_verdict_once_and_ends_the_watch(world):
    for step in (1, 2, 3):
        world.save(f"step_{step}", seed=1)
    rules = parse_rules(["plateau:patience=1,min_delta=0.9,name=flat"], ["target:score=0.99"])
    assert world.watch(*[lambda: None] * 9, rules=rules) == [1, 2, 3]
    verdict = json.loads(world.stop_file.read_text())
    assert verdict["step"] == 2
    assert "rises by at most" in verdict["reason"]
    assert len(world.said) == 1


def test_an_alert_is_in_the_record_once_per_event_also_after_a_restart(world):
    rules = parse_rules([], ["plateau:patience=1,min_delta=0.9,name=flat"])
    for last in (2, 4):
        for step in range(last - 1, last + 1):
            world.save(f"step_{step}", seed=1)
        world.watch(rules=rules, until_step=last, stop_file=None)
    found = {report.step: report.run.get("alerts") for report in read_reports(world.record)}
    assert [step for step, alerts in found.items() if alerts] == [2]
    assert found[2][0]["rule"] == "flat"
    assert len(world.said) == 1


def test_the_base_of_adapters_is_loaded_once(world, saved, tokenizer, monkeypatch):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, LlamaForCausalLM

    loads = []
    load = LlamaForCausalLM.from_pretrained.__func__
    for step in (1, 2, 3):
        base = AutoModelForCausalLM.from_pretrained(saved)
        lora = LoraConfig(
            r=4 + step, target_modules=["up_proj", "q_proj"], init_lora_weights=False,
            modules_to_save=["embed_tokens"] if step == 1 else None,
        )  # fmt: skip
        get_peft_model(base, lora).save_pretrained(world.run / f"checkpoint-{step}")
        tokenizer.save_pretrained(world.run / f"checkpoint-{step}")
    monkeypatch.setattr(
        LlamaForCausalLM,
        "from_pretrained",
        classmethod(lambda cls, *a, **k: loads.append(a) or load(cls, *a, **k)),
    )
    assert world.watch() == [1, 2, 3]
    assert len(loads) == 1
    for report in read_reports(world.record):
        folder = world.run / f"checkpoint-{report.step}"
        alone = Sweep(
            str(folder), folders_of_steps(world.run), OVERRIDES, LoadOptions(), world.run / "unused"
        )
        alone.checkpoints = [each for each in alone.checkpoints if each.step == report.step]
        assert alone.measure(alone.prepare(), alone.checkpoints[0]) == report


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("colapse:drop=0.1", "did you mean 'collapse'"),
        ("collapse:dorp=0.1", "did you mean 'drop'"),
        ("collapse:drop", "must be name=value"),
        ("collapse:drop=much", "must be a number, got 'much'"),
        ("target", "target needs score, as in target:score=0.5"),
        ("plateau:patience=0", "patience"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(text, error):
    with pytest.raises(ConfigError, match=error):
        parse_rule(text)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--until-step", 5), "--until-step can be used with --watch only"),
        (("--watch", "--revisions", "step1"), "--revisions are on the hub"),
        (("--watch", "--stop", "plateau"), "name it with --stop-file"),
        (("--watch", "--wandb", "a/b"), "--wandb must be ENTITY/PROJECT/RUN, got 'a/b'"),
        (("--watch", "--wandb", "a/b/c", "--resume-run", "c"), "pass one of them"),
    ],
)
def test_options_that_do_not_go_together_are_refused(options, error, neuronxa, tmp_path):
    code, _, err = neuronxa("sweep", tmp_path, *options)
    assert code == 2
    assert error in err
