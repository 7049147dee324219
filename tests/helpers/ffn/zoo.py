"""Every causal, masked and seq2seq language model of the installed transformers, tiny and random.

``entries`` lists the models; ``build`` builds one, offline. The same size has many names, so each
configuration gets a small value for every name that it knows.
"""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import transformers
from transformers.models.auto import modeling_auto

from tests.helpers.families import stir

VOCAB, HIDDEN, WIDTH, LAYERS, HEADS = 64, 32, 88, 2, 4

_SIZES: Mapping[str, Any] = (
    dict.fromkeys(("vocab_size", "n_vocab", "entity_vocab_size", "decoder_vocab_size"), VOCAB)
    | dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "dim", "emb_dim", "embedding_size", "embed_dim"),
        HIDDEN,
    )
    | dict.fromkeys(("embedding_dim", "word_embed_proj_dim", "attention_hidden_size"), HIDDEN)
    | dict.fromkeys(("lru_width", "dim_model", "decoder_hidden_size"), HIDDEN)
    | dict.fromkeys(
        ("intermediate_size", "n_inner", "d_ff", "ffn_dim", "hidden_dim", "d_inner", "dim_ff"),
        WIDTH,
    )
    | dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size"), WIDTH)
    | dict.fromkeys(("ffn_hidden_size", "expert_ffn_hidden_size", "intermediate_size_mlp"), WIDTH)
    | dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers"), LAYERS
    )
    | dict.fromkeys(("encoder_layers", "decoder_layers", "num_encoder_layers"), LAYERS)
    | dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"), HEADS
    )
    | dict.fromkeys(("decoder_attention_heads", "num_encoder_attention_heads"), HEADS)
    | dict.fromkeys(("num_decoder_attention_heads",), HEADS)
    | dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_head_kv", "num_query_groups"), 2)
    | dict.fromkeys(("head_dim", "d_kv", "kv_channels", "attention_head_size", "d_head"), 8)
    | dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4)
    | dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2)
    | dict.fromkeys(("moe_top_k", "moe_router_topk", "expert_selection_top_k"), 2)
    | dict.fromkeys(("moe_intermediate_size", "expert_intermediate_size"), 24)
    | dict.fromkeys(("shared_expert_intermediate_size", "shared_intermediate_size"), 40)
    | dict.fromkeys(("moe_shared_expert_intermediate_size", "moe_shared_intermediate_size"), 40)
    | dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16)
    | dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8)
    | dict.fromkeys(
        ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "max_sequence_length"),
        128,
    )
    | dict.fromkeys(("max_source_positions", "max_target_positions", "sliding_window"), 128)
    | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    | {"cls_token_id": 1, "sep_token_id": 2, "forced_eos_token_id": 2, "n_group": 2}
    | {"topk_group": 1, "n_shared_experts": 1, "num_shared_experts": 1, "type_vocab_size": 2}
    | {"image_token_id": 60, "audio_token_id": 61, "video_token_id": 62, "image_token_index": 60}
    | {"audio_token_index": 61, "max_window_layers": 2, "first_k_dense_replace": 1}
    | {"mamba_d_state": 8, "state_size": 8, "ssm_state_size": 8, "mamba_n_groups": 1, "n_groups": 1}
)
"""Name of a setting -> its tiny value in every configuration."""


@dataclass(frozen=True)
class Entry:
    """One model of the survey."""

    name: str
    """Model type and mapping, as in ``llama/causal``."""
    cls: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    experts: str = ""
    """An experts implementation; empty for the default."""


def entries() -> list[Entry]:
    """All entries of the three mappings, in their order."""
    found = []
    for kind, mapping in (
        ("causal", modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
        ("masked", modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES),
        ("seq2seq", modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
    ):
        for model_type, names in mapping.items():
            name = names if isinstance(names, str) else names[0]
            overrides = SPECIAL.get(f"{model_type}/{kind}", SPECIAL.get(model_type, {}))
            found.append(Entry(f"{model_type}/{kind}", name, overrides))
    return found


_GEMMA4: Mapping[str, Any] = {
    "vocab_size_per_layer_input": VOCAB,
    "hidden_size_per_layer_input": 8,
    "global_head_dim": 8,
}
_REFORMER: Mapping[str, Any] = {
    "axial_pos_embds_dim": [16, 16],
    "axial_pos_shape": [8, 8],
    "attn_layers": ["local", "local"],
    "local_attn_chunk_length": 8,
}


def variants() -> list[Entry]:
    """Models with options that change their feed-forward networks or how these run."""
    known = {entry.name: entry for entry in entries()}
    found = []
    for name, (base_name, overrides) in VARIANTS.items():
        # An older transformers has fewer.
        if base := known.get(base_name):
            found.append(Entry(name, base.cls, {**base.overrides, **overrides}))
    for family in ("mixtral", "gpt_oss", "qwen3_moe", "deepseek_v4", "nemotron_h"):
        base = known.get(f"{family}/causal")
        found += (
            []
            if base is None
            else [
                Entry(f"{family}+{how}/causal", base.cls, base.overrides, how)
                for how in ("eager", "batched_mm")
            ]
        )
    return found


VARIANTS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "nllb-moe+sparse/seq2seq": (
        "nllb-moe/seq2seq",
        {"encoder_sparse_step": 2, "decoder_sparse_step": 2, "expert_capacity": 64},
    ),
    "switch_transformers+sparse/seq2seq": (
        "switch_transformers/seq2seq",
        {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 64},
    ),
    "switch_transformers+capacity/seq2seq": (
        "switch_transformers/seq2seq",
        {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "expert_capacity": 2},
    ),
    "doge+moe/causal": ("doge/causal", {"is_moe": True, "num_experts": 16}),
    "gemma4_text+moe/causal": (
        "gemma4_text/causal",
        {"enable_moe_block": True, "top_k_experts": 2},
    ),
    "bert+chunked/masked": ("bert/masked", {"chunk_size_feed_forward": 2}),
    "t5+gated/seq2seq": ("t5/seq2seq", {"feed_forward_proj": "gated-silu"}),
    "llama+dff=hidden/causal": ("llama/causal", {"intermediate_size": HIDDEN}),
    "llama+dff=attn/causal": ("llama/causal", {"intermediate_size": 64, "head_dim": 16}),
    "mixtral+dff=hidden/causal": ("mixtral/causal", {"intermediate_size": HIDDEN}),
    "mixtral+dff=half/causal": ("mixtral/causal", {"intermediate_size": HIDDEN // 2}),
    "gpt2+relu/causal": ("gpt2/causal", {"activation_function": "relu"}),
    "albert+groups/masked": ("albert/masked", {"num_hidden_groups": 2, "inner_group_num": 2}),
    "funnel+unpooled/masked": ("funnel/masked", {"block_sizes": [3]}),
}
SPECIAL: Mapping[str, Mapping[str, Any]] = {
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8}
    | {"layer_types": ["mamba", "attention"]},
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [2, 3],
        "encoder_config": {"hidden_size_global": HIDDEN, "num_key_value_heads": HEADS},
        "decoder_config": {"hidden_size_global": HIDDEN, "num_key_value_heads": HEADS},
        "global_config": {"num_key_value_heads": HEADS},
        "patcher_config": {"num_key_value_heads": HEADS},
    },
    "cohere_compass_text": {
        "layer_types": ["full_attention", "sliding_attention"],
        "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 1e4},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    },
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "codegen": {"rotary_dim": 8},
    "gptj": {"rotary_dim": 8},
    "vibevoice_asr": {
        part: {"depths": [1, 1], "downsampling_ratios": [2], "num_filters": 4}
        for part in ("acoustic_tokenizer_encoder_config", "semantic_tokenizer_encoder_config")
    },
    "xmod": {"default_language": "en_XX"},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        "vocab_size_per_layer_input": VOCAB,
        "hidden_size_per_layer_input": 8,
        "activation_sparsity_pattern": [0.5, 0.0],
        "laurel_rank": 8,
    },
    "gemma4_text": _GEMMA4,
    "gemma4": {"text_config": _GEMMA4, "vision_config": None, "audio_config": None},
    "gemma4_unified": {"vision_config": None, "audio_config": None},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"zero_expert_num": 2, "head_dim": 8},
    "roc_bert": {"shape_vocab_size": 64, "pronunciation_vocab_size": 64, "shape_embed_dim": 16}
    | {"pronunciation_embed_dim": 16},
    "zamba": {"num_hidden_layers": 4, "attention_hidden_size": 64, "n_mamba_heads": 2}
    | {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "attention_head_dim": 16},
    "zamba2": {"num_hidden_layers": 4, "n_mamba_heads": 8, "num_mem_blocks": 1}
    | {"layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"], "adapter_rank": 4},
    "neomme": {"head_dim": 16},
    "fsmt": {"langs": ["en", "de"], "src_vocab_size": VOCAB, "tgt_vocab_size": VOCAB},
    "perceiver": {
        "num_latents": 9,
        "d_latents": 32,
        "num_blocks": 1,
        "num_self_attends_per_block": 2,
    }
    | {"num_self_attention_heads": 4, "num_cross_attention_heads": 4, "qk_channels": 32}
    | {"v_channels": 32, "max_position_embeddings": 128, "num_layers": 2},
    "reformer/masked": _REFORMER,
    "ctrl": {"dff": WIDTH},
    "dots3_note_text": {"num_key_value_heads": HEADS},
    "esmc": {"num_key_value_heads": HEADS},
    "zaya": {"num_experts_per_tok": 1},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "reformer/causal": _REFORMER | {"is_decoder": True},
}


def build(entry: Entry) -> Any:
    """The model in eval mode and fp32, with weights large enough to distinguish its states."""
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    torch.manual_seed(0)
    cls = getattr(transformers, entry.cls)
    model = cls(configure(cls.config_class, entry.overrides)).eval()
    if entry.experts:
        model.set_experts_implementation(entry.experts)
    stir(model)
    return model


def configure(cls: Any, overrides: Mapping[str, Any]) -> Any:
    """A tiny configuration; ``overrides`` may contain overrides of its parts, by name."""
    known = inspect.signature(cls.__init__).parameters
    given = {name: value for name, value in _SIZES.items() if name in known}
    if "qk_rope_head_dim" in known:
        given |= {"num_key_value_heads": HEADS}
        given.pop("head_dim", None)
    rest = dict(overrides)
    for name, sub in getattr(cls, "sub_configs", {}).items():
        if not getattr(sub, "model_type", ""):
            sub = type(getattr(cls(), name))
        if sub is not type(None):
            part = rest.pop(name, {})
            given[name] = part if part is None else configure(sub, part)
    return cls(**(given | rest))


ENTRIES: Mapping[str, Entry] = {entry.name: entry for entry in [*entries(), *variants()]}
"""All models of the survey by name."""
