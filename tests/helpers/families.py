"""Tiny random models, one per family, built offline in milliseconds, in eval mode and fp32."""

import inspect
import logging
from collections.abc import Mapping
from typing import Any

import torch
import transformers

VOCAB = 64

_PLAIN: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 88,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = _PLAIN | {"num_key_value_heads": 2, "head_dim": 8}
_MOE = _GROUPED | {"num_experts_per_tok": 2, "moe_intermediate_size": 24}
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 88,
    "decoder_ffn_dim": 88,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}
_T5: dict[str, Any] = {
    "vocab_size": VOCAB,
    "d_model": 32,
    "d_ff": 88,
    "d_kv": 8,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
}
_GPT2: dict[str, Any] = {
    "vocab_size": VOCAB,
    "n_embd": 32,
    "n_inner": 88,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SHARED_MOE = _MOE | {
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 2,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
_MLA = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "num_key_value_heads": 4,
}

FAMILIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _GROUPED),
    "qwen2": ("Qwen2ForCausalLM", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", _GROUPED),
    "mistral": ("MistralForCausalLM", _GROUPED),
    "glm": ("GlmForCausalLM", _GROUPED),
    "glm4": ("Glm4ForCausalLM", _GROUPED),
    "olmo": ("OlmoForCausalLM", _GROUPED),
    "olmo2": ("Olmo2ForCausalLM", _GROUPED),
    "gemma": ("GemmaForCausalLM", _GROUPED),
    "gemma2": ("Gemma2ForCausalLM", _GROUPED),
    "gemma3": ("Gemma3ForCausalLM", _GROUPED),
    "phi": ("PhiForCausalLM", _PLAIN),
    "phi3": ("Phi3ForCausalLM", _GROUPED),
    "starcoder2": ("Starcoder2ForCausalLM", _GROUPED),
    "lfm2": (
        "Lfm2ForCausalLM",
        _GROUPED | {"block_auto_adjust_ff_dim": False, "layer_types": ["conv", "full_attention"]},
    ),
    "bitnet": ("BitNetForCausalLM", _GROUPED),
    "gpt2": ("GPT2LMHeadModel", _GPT2),
    "gpt_neox": ("GPTNeoXForCausalLM", _PLAIN),
    "opt": (
        "OPTForCausalLM",
        {k: v for k, v in _PLAIN.items() if k != "intermediate_size"}
        | {"ffn_dim": 88, "word_embed_proj_dim": 32},
    ),
    "bloom": (
        "BloomForCausalLM",
        {"vocab_size": VOCAB, "hidden_size": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "bert": ("BertForMaskedLM", _PLAIN),
    "roberta": ("RobertaForMaskedLM", _PLAIN),
    "xlm-roberta": ("XLMRobertaForMaskedLM", _PLAIN),
    "modernbert": (
        "ModernBertForMaskedLM",
        _PLAIN | {"cls_token_id": 1, "sep_token_id": 2, "global_attn_every_n_layers": 1},
    ),
    "albert": ("AlbertForMaskedLM", _PLAIN | {"embedding_size": 16, "num_hidden_layers": 3}),
    "xlm": (
        "XLMWithLMHeadModel",
        {"vocab_size": VOCAB, "emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_token_id": 0}
        | {"max_position_embeddings": 128, "n_langs": 1},
    ),
    "squeezebert": (
        "SqueezeBertForMaskedLM",
        _PLAIN | {"embedding_size": 32, "q_groups": 2, "k_groups": 2, "v_groups": 2},
    ),
    "t5": ("T5ForConditionalGeneration", _T5),
    "mt5": ("MT5ForConditionalGeneration", _T5 | {"feed_forward_proj": "gated-gelu"}),
    "bart": ("BartForConditionalGeneration", _SEQ2SEQ),
    "mbart": ("MBartForConditionalGeneration", _SEQ2SEQ),
    "m2m_100": ("M2M100ForConditionalGeneration", _SEQ2SEQ),
    "switch_transformers": (
        "SwitchTransformersForConditionalGeneration",
        _T5
        | {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4}
        | {"expert_capacity": 64},
    ),
    "nllb-moe": (
        "NllbMoeForConditionalGeneration",
        _SEQ2SEQ
        | {"encoder_sparse_step": 2, "decoder_sparse_step": 2, "num_experts": 4}
        | {"expert_capacity": 64},
    ),
    "mixtral": (
        "MixtralForCausalLM",
        _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2},
    ),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        _MOE | {"num_experts": 4, "shared_expert_intermediate_size": 40, "decoder_sparse_step": 1},
    ),
    "qwen3_moe": ("Qwen3MoeForCausalLM", _MOE | {"num_experts": 4, "decoder_sparse_step": 1}),
    "olmoe": ("OlmoeForCausalLM", _GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}),
    "deepseek_v3": ("DeepseekV3ForCausalLM", _SHARED_MOE | _MLA),
    "glm4_moe": ("Glm4MoeForCausalLM", _SHARED_MOE),
    "gpt_oss": (
        "GptOssForCausalLM",
        _GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
    ),
    "llama4": (
        "Llama4ForCausalLM",
        _GROUPED
        | {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 88}
        | {"interleave_moe_layer_step": 1, "attention_chunk_size": 64},
    ),
    "jetmoe": (
        "JetMoeForCausalLM",
        {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "kv_channels": 8}
        | {"num_key_value_heads": 2, "intermediate_size": 24, "num_local_experts": 4}
        | {"num_experts_per_tok": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "mamba": (
        "MambaForCausalLM",
        {"vocab_size": VOCAB, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    ),
}
"""Family -> class in transformers, arguments of its configuration."""


def tiny(family: str, *, seed: int = 0, **overrides: Any) -> Any:
    """A random model of a family: 2 layers (ALBERT 3), hidden 32, d_ff 88, vocabulary 64.

    The state of the caller's random generator does not change.
    """
    logging.getLogger("transformers").setLevel(logging.ERROR)
    name, arguments = FAMILIES[family]
    cls = getattr(transformers, name)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        model = cls(cls.config_class(**(arguments | overrides)))
        stir(model)
    return model.eval()


def stir(model: torch.nn.Module) -> None:
    """Sets large weights and non-zero biases, so that a wrong state differs from a right one."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                parameter.normal_(0.0, 0.2)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)


def eager(family: str) -> Any:
    """A tiny model whose experts run one after another, so that their states are computed."""
    model = tiny(family)
    model.set_experts_implementation("eager")
    return model


def ids(batch: int = 2, tokens: int = 7, seed: int = 0) -> torch.Tensor:
    """Token ids [batch, tokens] without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, VOCAB, (batch, tokens), generator=generator)


def run(model: Any, tokens: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
    """One forward pass; a decoder gets the same tokens."""
    given: dict[str, Any] = {"input_ids": tokens}
    if "use_cache" in inspect.signature(type(model).forward).parameters:
        given["use_cache"] = False
    if mask is not None:
        given["attention_mask"] = mask
    if getattr(model.config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = tokens
    with torch.no_grad():
        return model(**given)


def adapted(family: str, **options: Any) -> Any:
    """A tiny model with LoRA adapters whose output differs from that of the base model."""
    import peft

    model = peft.get_peft_model(tiny(family), peft.LoraConfig(r=4, **options)).eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.3)
    return model
