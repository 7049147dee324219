"""Sentences to token ids, with a private copy of the tokenizer of the training script.

Training tokenizes with its own object, possibly in another thread, so a probe never touches it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.text import shorten
from neuronxa_callback.errors import ConfigError, CorpusError
from neuronxa_callback.probe.batching import Sentence, TokenizedCorpus
from neuronxa_callback.probe.forward import (
    embedding_rows,
    embedding_tables,
    language_model,
    text_config,
)
from neuronxa_callback.probe.tokenizer.chat_template import PLACEHOLDER, ChatTemplate
from neuronxa_callback.probe.tokenizer.language_codes import codes_by_language, language_codes
from neuronxa_callback.probe.tokenizer.private_copy import (
    digest_of,
    is_tokenizer,
    private_copy,
    state_of,
)

Tokenize = Callable[[str, str], Sentence]
"""(text, language) -> its tokens."""


class SentenceTokenizer:
    """Tokenizes sentences as configured; the given tokenizer stays untouched.

    Args:
        tokenizer: A tokenizer of transformers, or a processor that holds one.
        config: Its ``template``, ``special_tokens`` and ``lang_codes`` are used.
        corpus: The sentences to tokenize; None for a tokenizer without language codes.

    Raises:
        ConfigError: If ``tokenizer`` is not a tokenizer, its chat template is missing or depends
            on the time of day, or it has no code for a language.
    """

    def __init__(
        self, tokenizer: Any, config: ProbeConfig, corpus: ParallelCorpus | None = None
    ) -> None:
        inner = tokenizer if is_tokenizer(tokenizer) else getattr(tokenizer, "tokenizer", None)
        if not is_tokenizer(inner):
            raise ConfigError(
                "a probe needs the model's tokenizer, got"
                f" {type(tokenizer).__name__}; pass tokenizer=, or processing_class= to the Trainer"
            )
        self.original, self.config = inner, config
        pairs = {} if corpus is None else corpus.pairs
        self.names = () if corpus is None else (corpus.pivot, *corpus.languages)
        self._sample = [text for rows in pairs.values() for pair in rows[:2] for text in pair]
        self._state: Any = None
        self.copies = 0
        """How often the tokenizer has been copied."""
        self.refresh()

    def has_changed(self) -> bool:
        """Whether the given tokenizer has changed since it was copied."""
        return bool(state_of(self.original, self._sample) != self._state)

    def refresh(self) -> None:
        """Copy the tokenizer again if it has changed since it was copied."""
        state = state_of(self.original, self._sample)
        if state == self._state:
            return
        self._state, self.copies = state, self.copies + 1
        self.tokenizer = private_copy(self.original)
        codes = language_codes(self.tokenizer)
        self._code: str | None = None
        if codes:
            # The digest must not depend on the language that training has set.
            self._set_language(next(iter(codes)))
        self._code_ids = frozenset(codes.values())
        self._special_ids = {*_special_ids(self.tokenizer), *self._code_ids}
        self._code_of = codes_by_language(self.names, codes, self.config.lang_codes)
        self._digest = digest_of(self.tokenizer)
        self.chat = ChatTemplate(self.tokenizer) if self.config.template == "chat" else None
        """The chat template; None if it is not used."""

    @property
    def pad(self) -> int:
        """The id of padding; padding is masked, so any valid id works."""
        for name in ("pad_token_id", "eos_token_id"):
            value = getattr(self.tokenizer, name, None)
            if isinstance(value, int):
                return value
        return 0

    def __call__(self, text: str, language: str | None = None) -> Sentence:
        """Token ids of one sentence; ``language`` selects the code of its source language."""
        special = self.config.special_tokens
        if self.chat is not None:
            text, special = self.chat.render(text), False
        elif self.config.template is not None:
            text = self.config.template.replace(PLACEHOLDER, text)
        code = self._code_of.get(language or "")
        if code is not None and code != self._code:
            self._set_language(code)
        # One sentence at a time: fast tokenizers' parallel code warns in data loader workers.
        ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        if self.config.lang_codes == "none":
            ids = [i for i in ids if i not in self._code_ids]
        return Sentence(tuple(ids), tuple(i in self._special_ids for i in ids))

    def digest(self) -> str:
        """Identifies the tokenizer: sha256 of its vocabulary and rules, 16 hexadecimal digits."""
        return self._digest

    def _set_language(self, code: str) -> None:
        self.tokenizer.src_lang = self._code = code


def _special_ids(tokenizer: Any) -> tuple[int, ...]:
    """Ids of special tokens such as BOS. The unknown token is a word of the sentence, not special.

    Exception: byte-level tokenizers such as GPT-2's never produce an unknown token and use the id
    of their end token for it; that id is special.
    """
    unknown_id = getattr(tokenizer, "unk_token_id", None)
    marks = [getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep")]
    special = getattr(tokenizer, "all_special_ids", ())
    return tuple(i for i in special if i != unknown_id or i in marks)


def tokenize(
    corpus: ParallelCorpus, n_pairs: int, tokenize_sentence: Tokenize, limit: int
) -> TokenizedCorpus:
    """The first ``n_pairs`` usable pairs of every language, as token ids.

    A pair is dropped if one of its sentences has no tokens or more than ``limit``; it is never
    cut. If the pivot is shared, the pair is dropped in every language, so that the pivot stays the
    same.

    Raises:
        CorpusError: If a language is left with fewer than ``n_pairs`` pairs.
        ConfigError: If two encodings of one sentence differ.
    """
    sentences = _tokenize_twice(corpus, tokenize_sentence)
    unusable = {lang: _unusable_pairs(corpus, lang, sentences, limit) for lang in corpus.languages}
    dropped = tuple(dict.fromkeys(text for pairs in unusable.values() for text in pairs.values()))
    anywhere = {i for pairs in unusable.values() for i in pairs}
    usable: dict[str, tuple[tuple[str, str], ...]] = {}
    for language in corpus.languages:
        excluded = anywhere if corpus.shared_pivot else unusable[language].keys()
        pairs = [pair for i, pair in enumerate(corpus.pairs[language]) if i not in excluded]
        if len(pairs) < n_pairs:
            raise CorpusError(
                f"every language needs {n_pairs} usable pairs, {language} has {len(pairs)} of"
                f" {len(corpus.pairs[language])}"
                + (f" ({len(excluded)} dropped, first: {dropped[0]})" if dropped else "")
                + f"; set n_pairs={len(pairs)} or leave the language out"
            )
        usable[language] = tuple(pairs[:n_pairs])
    return TokenizedCorpus(usable, sentences, dropped, corpus.pivot)


def _tokenize_twice(
    corpus: ParallelCorpus, tokenize_sentence: Tokenize
) -> dict[tuple[str, str], Sentence]:
    pivots = [(corpus.pivot, pair[0]) for pairs in corpus.pairs.values() for pair in pairs]
    targets = [(name, pair[1]) for name, pairs in corpus.pairs.items() for pair in pairs]
    keys = tuple(dict.fromkeys((*pivots, *targets)))
    sentences = {(name, text): tokenize_sentence(text, name) for name, text in keys}
    for (name, text), sentence in sentences.items():
        if tokenize_sentence(text, name) != sentence:
            raise ConfigError(
                "the tokenizer must give the same tokens for the same sentence, but two encodings"
                f" of {shorten(text)!r} differ; switch its random segmentation off (BPE dropout,"
                " SentencePiece sampling)"
            )
    return sentences


def _unusable_pairs(
    corpus: ParallelCorpus, language: str, sentences: Mapping[tuple[str, str], Sentence], limit: int
) -> dict[int, str]:
    """Pair -> the reason why it cannot be used, with its place in the corpus."""
    reasons: dict[int, str] = {}
    for i, pair in enumerate(corpus.pairs[language]):
        for side, text in zip((corpus.pivot, language), pair, strict=True):
            length = len(sentences[side, text].ids)
            if not 0 < length <= limit:
                reason = f"{length} tokens of {side}, allowed 1 to {limit}"
                reasons.setdefault(i, f"{corpus.where(language, i)}: {reason}")
    return reasons


def padding_id(model: nn.Module, pad: int) -> int:
    """``pad``, or 0 if the model has no embedding of it; padding is masked."""
    rows = embedding_rows(model)
    return pad if pad >= 0 and (rows is None or pad < rows) else 0


def require_embeddings(model: nn.Module, tokenized: TokenizedCorpus) -> None:
    """Raise an error if the model has no embedding of a token: on a GPU, its forward would abort.

    Raises:
        ConfigError: Names the token and the sentence.
    """
    rows = embedding_rows(model) or 1 << 62
    for (_, text), sentence in tokenized.sentences.items():
        if sentence.ids and max(sentence.ids) >= rows:
            raise ConfigError(
                f"the model must have an embedding of every token, but token {max(sentence.ids)}"
                f" of {shorten(text)!r} is outside its {rows} rows; pass the model's tokenizer, or"
                " call model.resize_token_embeddings(len(tokenizer))"
            )


def longest_sentence(model: nn.Module, tokenizer: Any) -> int:
    """The most tokens that both model and tokenizer accept; 2^30 if neither has a limit."""
    config = text_config(model)
    language = language_model(model)
    names = ("max_position_embeddings", "n_positions", "max_sequence_length", "max_seq_len")
    positions = [getattr(config, name, None) for name in names]
    if not callable(getattr(config, "get_text_config", None)):
        positions += _plain_positions(model, config)
    unusable = _unusable_positions(language)
    limits = [n - unusable for n in positions if isinstance(n, int) and n > 0]
    most = getattr(tokenizer, "model_max_length", None)
    if isinstance(most, int) and most > 0:
        limits.append(most)
    return min(limits, default=1 << 30)


def _plain_positions(model: nn.Module, config: Any) -> list[Any]:
    """Limits of a model of plain PyTorch: its options, and its tables of positions."""
    options = config if isinstance(config, Mapping) else getattr(config, "__dict__", {})
    names = ("block_size", "context_length", "max_seq_length", "n_ctx")
    tables = embedding_tables(model, positions=True)
    return [*(options.get(n) for n in names), *(table.num_embeddings for table in tables)]


def _unusable_positions(model: nn.Module) -> int:
    """Positions that RoBERTa-like models cannot use: they count from the padding index on."""
    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            return int(module.padding_idx) + 1
    return 0
