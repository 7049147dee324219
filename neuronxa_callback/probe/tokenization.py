"""Sentences to token ids, with the tokenizer of the training script."""

import hashlib
import json
from typing import Any

from torch import nn

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.batching import Sentence
from neuronxa_callback.probe.forward import base_of, text_config


class SentenceTokenizer:
    """Tokenizes sentences as configured; the tokenizer's own settings stay unchanged.

    Args:
        tokenizer: A tokenizer of transformers, or a processor that holds one.
        config: Its ``template`` and ``special_tokens`` are used.

    Raises:
        ConfigError: If ``tokenizer`` is not a tokenizer.
    """

    def __init__(self, tokenizer: Any, config: ProbeConfig) -> None:
        inner = getattr(tokenizer, "tokenizer", tokenizer)
        if not callable(inner) or not hasattr(inner, "get_vocab"):
            raise ConfigError(
                "a probe needs the model's tokenizer, got"
                f" {type(tokenizer).__name__}; pass tokenizer=, or processing_class= to the Trainer"
            )
        self.tokenizer, self.config = inner, config
        self.special_ids = _special_ids(inner)

    @property
    def pad(self) -> int:
        """The id of padding; padding is masked, so any valid id works."""
        for name in ("pad_token_id", "eos_token_id"):
            value = getattr(self.tokenizer, name, None)
            if isinstance(value, int):
                return value
        return 0

    def __call__(self, text: str) -> Sentence:
        """Token ids of one sentence."""
        special = self.config.special_tokens
        if self.config.template == "chat":
            turns = [{"role": "user", "content": text}]
            text = self.tokenizer.apply_chat_template(turns, tokenize=False)
            special = False
        elif self.config.template is not None:
            text = self.config.template.replace("{sentence}", text)
        saved = _padding_settings(self.tokenizer)
        try:
            # One sentence at a time: fast tokenizers' parallel code warns in data loader workers.
            ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        finally:
            _restore_padding(self.tokenizer, saved)
        return Sentence(tuple(ids), tuple(i in self.special_ids for i in ids))

    def digest(self) -> str:
        """Identifies the tokenizer: sha256 of its vocabulary and rules, 16 hexadecimal digits."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            rules = json.loads(backend.to_str())
            for setting in ("truncation", "padding"):
                rules.pop(setting, None)
        else:
            rules = self.tokenizer.get_vocab()
        text = json.dumps(rules, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of special tokens such as BOS. The unknown token is a word of the sentence, not special.

    Exception: byte-level tokenizers such as GPT-2's never produce an unknown token and use the id
    of their end token for it; that id is special.
    """
    unknown = getattr(tokenizer, "unk_token_id", None)
    marks = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep")]
    special = getattr(tokenizer, "all_special_ids", ())
    return tuple(i for i in special if i != unknown or i in marks)


def longest_sentence(model: nn.Module, tokenizer: Any) -> int:
    """The most tokens that both model and tokenizer accept; 2^30 if neither has a limit."""
    config = text_config(model)
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")
    positions = [getattr(config, name, None) for name in names]
    unusable = _unusable_positions(base_of(model))
    limits = [n - unusable for n in positions if isinstance(n, int) and n > 0]
    most = getattr(tokenizer, "model_max_length", None)
    if isinstance(most, int) and most > 0:
        limits.append(most)
    return min(limits, default=1 << 30)


def _unusable_positions(model: nn.Module) -> int:
    """Positions that RoBERTa-like models cannot use: they count from the padding index on."""
    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            return int(module.padding_idx) + 1
    return 0


def _padding_settings(tokenizer: Any) -> tuple[Any, Any] | None:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return None if backend is None else (backend.truncation, backend.padding)


def _restore_padding(tokenizer: Any, saved: tuple[Any, Any] | None) -> None:
    # A call switches off the truncation and padding that training switched on.
    if saved is None:
        return
    backend, (truncation, padding) = tokenizer.backend_tokenizer, saved
    if backend.truncation != truncation:
        backend.enable_truncation(**truncation) if truncation else backend.no_truncation()
    if backend.padding != padding:
        backend.enable_padding(**padding) if padding else backend.no_padding()
