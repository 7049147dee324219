"""A private copy of a tokenizer, whether it has changed, and what identifies it."""

import copy
import hashlib
import json
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

VOCABULARY = ("get_vocab", "convert_tokens_to_ids", "vocab_size")
"""Attributes of tokenizers; an object without any of them may hold a tokenizer."""
SAMPLING = ("dropout", "alpha", "nbest_size")
"""Settings of random segmentation in the models of the tokenizers library."""
NOT_OURS = ("padding_side", "truncation_side", "verbose", "_in_target_context_manager")
"""Settings of a tokenizer that do not change the tokens of one sentence."""
COMPONENTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def private_copy(tokenizer: Any) -> Any:
    """A copy that shares no setting with ``tokenizer`` and never samples.

    Large parts that a call does not change, such as a vocabulary in Python, are shared.
    """
    try:
        own = object.__new__(type(tokenizer))
        own.__dict__.update(vars(tokenizer))
    except TypeError:  # Without attributes of its own.
        return copy.deepcopy(tokenizer)
    for name, value in vars(tokenizer).items():
        own.__dict__[name] = _private_part(value, tokenizer, own)
    return own


def _private_part(value: Any, tokenizer: Any, own: Any) -> Any:
    if isinstance(value, dict | list | set):
        return copy.copy(value)
    if isinstance(value, MethodType) and value.__self__ is tokenizer:
        return MethodType(value.__func__, own)
    if hasattr(value, "to_str") and hasattr(value, "no_truncation"):
        return _private_backend(value)
    if getattr(value, "_enable_sampling", False):  # SentencePiece.
        value = copy.copy(value)
        value._enable_sampling = False
        return value
    if value is not tokenizer and not isinstance(value, type) and is_tokenizer(value):
        return private_copy(value)
    return value


def _private_backend(backend: Any) -> Any:
    """A copy of a ``tokenizers.Tokenizer`` without truncation, padding and sampling."""
    try:
        own = type(backend).from_str(backend.to_str())
    except Exception:  # Components written in Python have no text form; share the model.
        own = type(backend)(backend.model)
        for name in COMPONENTS:
            if getattr(backend, name) is not None:
                setattr(own, name, getattr(backend, name))
        for _, token in sorted(backend.get_added_tokens_decoder().items()):
            own.add_special_tokens([token]) if token.special else own.add_tokens([token])
    else:
        for name in SAMPLING:
            if getattr(own.model, name, None) is not None:
                setattr(own.model, name, None)
    own.no_truncation()
    own.no_padding()
    return own


def is_tokenizer(candidate: Any) -> bool:
    """Whether an object tokenizes by itself, unlike a processor that holds a tokenizer."""
    return callable(candidate) and any(hasattr(candidate, name) for name in VOCABULARY)


def state_of(tokenizer: Any, sample: Sequence[str]) -> dict[str, Any]:
    """Differs if the tokens of a sentence may differ; much cheaper than a digest of all rules.

    Args:
        tokenizer: A tokenizer.
        sample: Sentences whose segmentation is part of the state.
    """
    state: dict[str, Any] = {"length": _or_none(len, tokenizer)}
    for name, value in getattr(tokenizer, "__dict__", {}).items():
        if name in NOT_OURS or name == "deprecation_warnings":
            continue
        if value is None or isinstance(value, str | int | float):
            state[name] = value
        elif isinstance(value, dict | list | set | tuple):
            state[name] = repr(value) if len(value) < 1000 else (id(value), len(value))
        elif hasattr(value, "to_str") and hasattr(value, "no_truncation"):
            state[name] = _backend_state(value, sample)
        else:
            state[name] = id(value)
    return state


def _backend_state(backend: Any, sample: Sequence[str]) -> Any:
    model = backend.model
    return (
        backend.get_vocab_size(True),
        [_or_none(_component_state, backend, name) for name in COMPONENTS],
        sorted((i, repr(token)) for i, token in backend.get_added_tokens_decoder().items()),
        [getattr(model, name, None) for name in SAMPLING],
        [_or_none(_segment, model, text) for text in sample],
    )


def _component_state(backend: Any, name: str) -> str:
    component = getattr(backend, name)
    return "" if component is None else hashlib.sha256(component.__getstate__()).hexdigest()


def _segment(model: Any, text: str) -> list[int]:
    return [token.id for token in model.tokenize(text)]


def _or_none(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Exception:
        return None


def digest_of(tokenizer: Any) -> str:
    """sha256 of all that a tokenizer shows of its vocabulary and rules, 16 hexadecimal digits."""
    rules = _or_none(_rules, getattr(tokenizer, "backend_tokenizer", None))
    if rules is None:
        rules = _or_none(_vocabulary, tokenizer)
    if rules is None:
        names = ("vocab_size", "all_special_tokens", "all_special_ids")
        shown = {name: _or_none(getattr, tokenizer, name) for name in names}
        rules = {"class": type(tokenizer).__qualname__, **shown}
    text = json.dumps(rules, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _vocabulary(tokenizer: Any) -> Any:
    return tokenizer.get_vocab()


def _rules(backend: Any) -> Any:
    rules = json.loads(backend.to_str())
    for setting in ("truncation", "padding"):
        rules.pop(setting, None)
    return rules
