"""Probes with TRL's trainer, PEFT's adapters, quantized weights, and one model per family."""

import pytest
import torch

from neuronxa_callback import NeuronXACallback, Probe, ProbeConfig, TapError
from neuronxa_callback.show.sinks import MemorySink
from tests.helpers.families import FAMILIES, tiny
from tests.helpers.ffn.reading import read
from tests.helpers.tiny import llama, parallel, tokenizer_of

CORPUS = parallel(8)
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
FAST = ("llama", "albert", "t5", "mixtral")
"""Gated, several passes of one block, two stacks, routed experts; the other families are slow."""
NOT_SLOW = {*FAST, "mamba"}
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=8, metrics=("nasca", "navca", "mexa"))


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(TEXTS)


def test_trl_logs_the_same_with_and_without_the_callback(tokenizer, tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = []
    for name in ("with", "without"):
        memory = MemorySink()
        trainer = trl.SFTTrainer(
            model=llama(),
            args=trl.SFTConfig(
                output_dir=str(tmp_path / name),
                max_steps=4,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
                use_cpu=True,
                bf16=False,
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"text": TEXTS}),
            processing_class=tokenizer,
            callbacks=[NeuronXACallback(CONFIG, every=2, sinks=[memory])] * (name == "with"),
        )
        trainer.train()
        logged = [row for row in trainer.state.log_history if "loss" in row]
        kept = ("loss", "entropy", "mean_token_accuracy", "num_tokens")
        rows.append([{key: row[key] for key in kept if key in row} for row in logged])
        if name == "with":
            assert [report.step for report in memory.reports] == [0, 2, 4]
    assert rows[0] == rows[1]
    assert "mean_token_accuracy" in rows[0][0]


def test_adapters_score_like_the_merged_model(tokenizer):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = llama()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    plain = Probe(CONFIG, tokenizer).run(model)
    lora = peft.LoraConfig(
        r=4, target_modules=["gate_proj", "up_proj", "down_proj"], init_lora_weights=False
    )
    adapted = peft.get_peft_model(model, lora).eval()
    found = Probe(CONFIG, tokenizer).run(adapted)
    merged = Probe(CONFIG, tokenizer).run(adapted.merge_and_unload())
    assert found.metrics == merged.metrics
    assert found.metrics != plain.metrics


def test_a_model_without_feed_forward_networks_is_refused_by_name(tokenizer):
    with pytest.raises(TapError, match="no feed-forward network found in MambaForCausalLM"):
        Probe(CONFIG, tokenizer).run(tiny("mamba", vocab_size=400))


@pytest.mark.parametrize(
    "family",
    [
        *FAST,
        *(pytest.param(name, marks=pytest.mark.slow) for name in sorted(set(FAMILIES) - NOT_SLOW)),
    ],
)
def test_a_probe_runs_on_every_family(family, tokenizer):
    model = tiny(family, vocab_size=400)
    report = Probe(CONFIG, tokenizer).run(model)
    for metric in CONFIG.metrics:
        for language in CORPUS.languages:
            curve = report.curve(metric, language)
            assert all(0 <= score <= 1 for score in curve)
    assert Probe(CONFIG, tokenizer).run(model) == report


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_weights_are_read_as_they_compute(bits, tmp_path):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    llama(hidden_size=64, intermediate_size=128).save_pretrained(tmp_path)
    how = BitsAndBytesConfig(
        load_in_8bit=bits == 8, load_in_4bit=bits == 4, bnb_4bit_compute_dtype=torch.float32
    )
    model = AutoModelForCausalLM.from_pretrained(
        tmp_path, quantization_config=how, device_map="cpu"
    )
    ffn, inputs = model.model.layers[1].mlp, []
    assert type(ffn.gate_proj).__module__.startswith("bitsandbytes")
    ffn.register_forward_pre_hook(lambda _, args: inputs.append(args[0].clone()))
    _, states = read(model, lambda tokens: model(input_ids=tokens))
    with torch.no_grad():
        gate = ffn.act_fn(ffn.gate_proj(inputs[-1]))
        product = gate * ffn.up_proj(inputs[-1])
    for site, wanted in (("gate", gate), ("product", product)):
        assert torch.equal(states[1][site].reshape(wanted.shape), wanted)
