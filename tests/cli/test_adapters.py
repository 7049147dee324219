"""Weights that do not load are refused: of adapters of several kinds, and of whole models."""

import json
import shutil

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import llama

LORA = {"r": 4, "target_modules": ["gate_proj", "down_proj", "q_proj"]}
KINDS = {
    "lora": LoraConfig(**LORA, init_lora_weights=False),
    "dora": LoraConfig(**LORA, init_lora_weights=False, use_dora=True),
    "head": LoraConfig(**LORA, init_lora_weights=False, modules_to_save=["lm_head"]),
    "embeddings": LoraConfig(r=4, target_modules=["q_proj", "embed_tokens"]),
    "ia3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
    "prompt": PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
}
FILE = "adapter_model.safetensors"


@pytest.fixture
def adapted(saved, tokenizer, tmp_path):
    """Saves adapters of one kind over the saved model; returns their folder."""

    def save(kind):
        base = AutoModelForCausalLM.from_pretrained(saved)
        get_peft_model(base, KINDS[kind]).save_pretrained(tmp_path / kind)
        tokenizer.save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return save


def rewrite(folder, change, file=FILE):
    """Replaces the saved weights by ``change(weights)``."""
    save_file(change(load_file(folder / file)), folder / file, {"format": "pt"})


def compiled(weights):
    return {f"_orig_mod.{key}": value for key, value in weights.items()}


def inside(weights):
    return {
        k.replace("base_model.model.", "base_model.model._orig_mod."): v for k, v in weights.items()
    }


def half(weights):
    return dict(list(weights.items())[::2])


def with_other(weights):
    return {
        **weights,
        "base_model.model.model.layers.9.mlp.gate_proj.lora_A.weight": torch.ones(4, 32),
    }


def with_adapter_name(weights):
    return {key.replace(".weight", ".default.weight"): value for key, value in weights.items()}


def nothing(weights):
    return {}


def refused(neuronxa, folder, *words):
    code, out, err = neuronxa("score", folder, "--languages", "deu_Latn", "--n-pairs", "5")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err
    return err


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("lora", compiled, ("are missing", "have no place, such as _orig_mod.base_model.")),
        ("lora", inside, ("are missing", "have no place, such as base_model.model._orig_mod.")),
        ("lora", with_adapter_name, ("are missing, such as base_model.model.model.layers.0.",)),
        ("lora", half, ("are missing, such as base_model.model.model.layers.0.",)),
        ("lora", nothing, ("are missing, such as base_model.model.model.layers.0.",)),
        ("lora", with_other, ("1 have no place, such as base_model.model.model.layers.9.mlp.",)),
        ("dora", half, ("are missing, such as base_model.model.model.layers.0.",)),
        ("head", nothing, ("are missing, such as base_model.model.lm_head",)),
        ("embeddings", half, ("are missing, such as base_model.model.model.",)),
        ("ia3", nothing, ("are missing, such as base_model.model.model.layers.0.",)),
        ("ia3", compiled, ("have no place, such as _orig_mod.",)),
        ("prompt", nothing, ("prompt_embeddings",)),
    ],
)
def test_adapters_whose_weights_do_not_load_are_refused_with_their_keys(
    kind, change, words, adapted, neuronxa
):
    folder = adapted(kind)
    rewrite(folder, change)
    refused(neuronxa, folder, *words)


@pytest.mark.parametrize("kind", ["lora", "dora", "head", "embeddings", "ia3"])
def test_adapters_whose_weights_load_are_scored(kind, adapted, neuronxa):
    options = ("--languages", "deu_Latn", "--n-pairs", "5")
    code, _, err = neuronxa("score", adapted(kind), *options)
    assert code == 0, err


def test_adapters_that_change_nothing_are_scored(adapted, saved, neuronxa):
    folder = adapted("lora")
    rewrite(folder, lambda w: {k: v * 0 if "lora_B" in k else v for k, v in w.items()})
    options = ("--languages", "deu_Latn", "--n-pairs", "5", "--json")
    scores = [
        json.loads(neuronxa("score", place, *options)[1])["metrics"] for place in (folder, saved)
    ]
    assert scores[0] == scores[1]


def test_adapters_of_another_rank_are_refused(adapted, neuronxa):
    folder = adapted("lora")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "r": 2}))
    refused(neuronxa, folder, "size mismatch for base_model.model.model.layers.0.")


def test_adapters_of_another_base_are_refused(adapted, neuronxa, tmp_path):
    folder = adapted("lora")
    llama(num_hidden_layers=2).save_pretrained(tmp_path / "shallow")
    config = json.loads((folder / "adapter_config.json").read_text())
    other = {**config, "base_model_name_or_path": str(tmp_path / "shallow")}
    (folder / "adapter_config.json").write_text(json.dumps(other))
    refused(neuronxa, folder, "have no place, such as base_model.model.model.layers.2.")


def test_adapters_without_weights_or_with_truncated_ones_are_refused(adapted, neuronxa):
    folder = adapted("lora")
    (folder / FILE).write_bytes((folder / FILE).read_bytes()[:2000])
    refused(neuronxa, folder, str(folder))
    (folder / FILE).unlink()
    refused(
        neuronxa, folder, "must hold the weights of its adapters (adapter_model.*), it holds none"
    )


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "_fsdp_wrapped_module.model."])
def test_whole_models_saved_from_a_wrapper_are_refused_by_their_keys(
    prefix, neuronxa, saved, tmp_path
):
    shutil.copytree(saved, tmp_path / "wrapped")
    rewrite(
        tmp_path / "wrapped",
        lambda weights: {prefix + key: value for key, value in weights.items()},
        "model.safetensors",
    )
    refused(neuronxa, tmp_path / "wrapped", "are missing", f"have no place, such as {prefix}")


def test_a_missing_file_of_weights_is_refused_by_its_name(neuronxa, tokenizer, tmp_path):
    llama().save_pretrained(tmp_path, max_shard_size="20KB")
    tokenizer.save_pretrained(tmp_path)
    lost = sorted(tmp_path.glob("model-*.safetensors"))[1]
    lost.unlink()
    refused(neuronxa, tmp_path, f"1 are missing, such as {lost.name}")


def test_weights_in_parts_of_deepspeed_without_its_script_are_refused(neuronxa, saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    (tmp_path / "global_step2").mkdir()
    (tmp_path / "global_step2" / "zero_pp_rank_0_mp_rank_00_model_states.pt").touch()
    refused(neuronxa, tmp_path, f"python -m deepspeed.utils.zero_to_fp32 {tmp_path} {tmp_path}")
