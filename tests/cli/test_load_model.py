"""Errors of models that cannot be loaded and of options that cannot be used."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from tests.helpers.shell import is_hub_error
from tests.helpers.tiny import llama


@pytest.mark.parametrize("command", ["score", "taps"])
@pytest.mark.parametrize("name", ["{0}/nothing", "./nothing", "a/b/c"])
def test_a_missing_model_is_refused_in_one_sentence(name, command, neuronxa, tmp_path):
    name = name.format(tmp_path)
    assert neuronxa(command, name) == (
        2,
        "",
        f"neuronxa: a model must be a folder or a name on the hub, {name!r} is neither\n",
    )


@pytest.mark.parametrize("command", ["score", "taps"])
def test_an_unreachable_hub_is_reported_in_one_sentence(command, neuronxa):
    assert is_hub_error(neuronxa(command, "no-such/model"))


def test_a_missing_tokenizer_is_refused_with_the_reason(neuronxa, tmp_path):
    llama().save_pretrained(tmp_path)
    code, _, err = neuronxa("score", tmp_path)
    assert code == 2
    before, after = (
        f"neuronxa: no tokenizer in {str(tmp_path)!r} (",
        "); name one with --tokenizer\n",
    )
    assert err.startswith(before)
    assert err.endswith(after)
    assert len(err) > len(before + after) + 10
    assert len(err.splitlines()) == 1


def test_truncated_weights_are_refused_in_one_sentence(neuronxa, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    code, out, err = neuronxa("score", weights.parent)
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: a model must be a folder or a name on the hub that can be ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--dtype", "float61"), "unknown dtype: 'float61'; did you mean 'float16'"),
        (("--device", "toaster"), "a device must be cpu, cuda, cuda:1 or the like, got 'toaster'"),
        (("--metrics", "nascar"), "unknown metric: 'nascar'; did you mean 'nasca'"),
        (("--languages", "Germn"), "unknown language: 'Germn'; did you mean 'deu_Latn'"),
        (("--config", "none.toml"), "there is no configuration file 'none.toml'"),
        (("--languages", "de", "--n-pairs", "101"), "deu_Latn has 100"),
        (("--n-pairs", "1"), "greater than or equal to 2"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(option, message, neuronxa, saved):
    code, out, err = neuronxa("score", saved, *option)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", ["score", "taps"])
def test_a_folder_without_a_model_is_refused(command, neuronxa, tmp_path):
    code, _, err = neuronxa(command, tmp_path)
    assert code == 2
    assert err == (
        "neuronxa: a model's folder must hold config.json or adapter_config.json, "
        f"{str(tmp_path)!r} holds neither\n"
    )


def test_a_model_with_missing_weights_is_refused(neuronxa, saved, tmp_path):
    shutil.copy(saved / "config.json", tmp_path)
    weights = load_file(saved / "model.safetensors")
    weights.pop("model.layers.1.mlp.gate_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    code, _, err = neuronxa("taps", tmp_path)
    assert code == 2
    assert err == (
        f"neuronxa: {tmp_path} must hold all weights that its neurons depend on, 1 are missing, "
        "such as model.layers.1.mlp.gate_proj.weight: scores of random weights mean nothing\n"
    )


@pytest.mark.parametrize(
    ("files", "command"),
    [
        (("pytorch_model_fsdp_0/__0_0.distcp",),
         "accelerate merge-weights {0}/pytorch_model_fsdp_0 {0}"),
        (("zero_to_fp32.py", "global_step2/mp_rank_00_model_states.pt"),
         "python {0}/zero_to_fp32.py {0} {0} --safe_serialization"),
    ],
)  # fmt: skip
def test_weights_in_parts_are_refused_with_the_command_that_merges_them(
    files, command, neuronxa, tmp_path
):
    llama().config.save_pretrained(tmp_path)
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    code, _, err = neuronxa("taps", tmp_path)
    assert code == 2
    assert command.format(tmp_path) in err
