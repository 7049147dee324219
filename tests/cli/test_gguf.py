"""Models in GGUF files, written here with the package gguf."""

import importlib.util
import json
import shutil

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests.helpers.shell import LANGUAGES

gguf = pytest.importorskip("gguf", reason="the package gguf is missing")

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, number, rest = module.split(".", 3)
        return f"blk.{number}.{NAMES[rest]}.{kind}"
    return f"{NAMES[module]}.{kind}"


def write(path, model, tokenizer, quantized=False):
    """A GGUF file of a Qwen2 model and its byte-level tokenizer."""
    config, writer = model.config, gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    bpe = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<") and k < 3 else 1
                            for k, token in enumerate(tokens)])  # fmt: skip
    writer.add_token_merges([" ".join(pair) for pair in bpe["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    for name, weight in model.state_dict().items():
        values = weight.float().numpy()
        if quantized and values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def qwen(tokenizer):
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=False,
    )  # fmt: skip
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(scope="module")
def folders(qwen, tokenizer, tmp_path_factory):
    """The same model as safetensors, as a GGUF file, and as a quantized GGUF file."""
    root = tmp_path_factory.mktemp("gguf")
    qwen.save_pretrained(root / "saved")
    tokenizer.save_pretrained(root / "saved")
    for name, quantized in (("whole", False), ("quantized", True)):
        (root / name).mkdir()
        write(root / name / f"{name}.gguf", qwen, tokenizer, quantized)
    return root


def scores_of(neuronxa, *arguments):
    options = ("--languages", ",".join(LANGUAGES), "--n-pairs", 8, "--json")
    code, out, err = neuronxa("score", *arguments, *options)
    assert code == 0, err
    return json.loads(out), err


@pytest.mark.parametrize("name", ["whole", "whole/whole.gguf"])
def test_a_gguf_file_scores_as_the_model_that_it_holds(neuronxa, folders, name):
    saved, _ = scores_of(neuronxa, folders / "saved")
    report, err = scores_of(neuronxa, folders / name, "--tokenizer", folders / "saved")
    assert report["metrics"] == saved["metrics"]
    assert f"{folders / name}: weights in F32 are read as float32" in err


def test_quantized_weights_are_read_in_the_dtype_that_is_printed(neuronxa, folders):
    report, err = scores_of(neuronxa, folders / "quantized")
    assert "weights in Q8_0, F32 are read as float32" in err
    assert report["fingerprint"]["model"]["weights"] == "float32"
    chosen, err = scores_of(neuronxa, folders / "quantized", "--dtype", "bfloat16")
    assert "weights in Q8_0, F32 are read as bfloat16" in err
    assert chosen["fingerprint"]["model"]["weights"] == "bfloat16"


@pytest.mark.parametrize("empty", [(), ("--empty",)])
def test_the_taps_of_a_gguf_file(neuronxa, folders, empty):
    code, out, err = neuronxa("taps", folders / "whole", *empty)
    assert code == 0, err
    assert "mlp.down_proj" in out


@pytest.mark.parametrize("command", ["score", "taps"])
def test_several_gguf_files_are_listed(neuronxa, folders, tmp_path, command):
    for name in ("b.gguf", "a.gguf"):
        shutil.copy(folders / "whole/whole.gguf", tmp_path / name)
    code, _, err = neuronxa(command, tmp_path)
    assert code == 2
    assert err == (
        f"neuronxa: {tmp_path} must hold one GGUF file, got 2; name one of them:"
        f" {tmp_path / 'a.gguf'}, {tmp_path / 'b.gguf'}\n"
    )


def test_a_folder_with_a_configuration_is_no_gguf_model(neuronxa, folders, tmp_path):
    shutil.copytree(folders / "saved", tmp_path / "both")
    (tmp_path / "both" / "other.gguf").touch()
    code, _, err = neuronxa("taps", tmp_path / "both")
    assert code == 0, err
    assert "GGUF" not in err


def test_a_broken_gguf_file_is_refused_in_one_sentence(neuronxa, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(b"GGUF")
    code, out, err = neuronxa("taps", tmp_path / "cut.gguf")
    assert (code, out) == (2, "")
    assert err.startswith("neuronxa: a model must be ")
    assert len(err.splitlines()) == 1


def test_without_the_package_the_extra_is_named(folders, monkeypatch):
    from neuronxa_callback.cli.loading.gguf_files import gguf_file_of
    from neuronxa_callback.errors import ConfigError

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "gguf" else find(n))
    file = folders / "whole" / "whole.gguf"
    with pytest.raises(ConfigError) as error:
        gguf_file_of(str(file))
    assert str(error.value) == (
        f"{file} is a GGUF file, which needs the package gguf: pip install"
        " 'neuronxa-callback[gguf]'"
    )
