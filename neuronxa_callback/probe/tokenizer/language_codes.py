"""Codes of source languages, which some tokenizers add to a sentence (NLLB, M2M100, mBART)."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuronxa_callback.corpus import languages
from neuronxa_callback.errors import ConfigError, CorpusError, unknown


def language_codes(tokenizer: Any) -> dict[str, int]:
    """Values of ``src_lang`` -> ids of their tokens; empty if the tokenizer has no such codes."""
    if not hasattr(tokenizer, "src_lang"):
        return {}
    ids = getattr(tokenizer, "lang_code_to_id", None)
    if isinstance(ids, Mapping) and ids:
        return dict(ids)
    tokens = getattr(tokenizer, "lang_code_to_token", None)
    if not isinstance(tokens, Mapping) or not tokens:
        roles = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
        plain = {getattr(tokenizer, f"{role}_token", None) for role in roles}
        names = [token for token in tokenizer.all_special_tokens if token not in plain]
        tokens = {token: token for token in names if languages.code_of_name(_bare(token))}
    return {code: tokenizer.convert_tokens_to_ids(token) for code, token in tokens.items()}


def _bare(code: str) -> str:
    return code.strip("_<>|[]")


def codes_by_language(
    names: Sequence[str], codes: Mapping[str, int], wanted: str | Mapping[str, str]
) -> dict[str, str]:
    """Language -> the code with which its sentences are tokenized."""
    given = {} if isinstance(wanted, str) else _given_codes(names, codes, wanted)
    if not codes or not names or wanted == "none":
        return {}
    if wanted == "pivot":
        return dict.fromkeys(names, _own_code(names[0], codes))
    return {name: given.get(name) or _own_code(name, codes) for name in names}


def _given_codes(
    names: Sequence[str], codes: Mapping[str, int], wanted: Mapping[str, str]
) -> dict[str, str]:
    if not codes:
        raise ConfigError(
            "lang_codes as a mapping needs a tokenizer with language codes (src_lang), this one"
            " has none; leave lang_codes out"
        )
    bare = {_bare(code): code for code in codes} | {code: code for code in codes}
    given = {}
    for name, code in wanted.items():
        if code not in bare:
            raise ConfigError(unknown(f"language code for {name}", code, codes))
        try:
            given[languages.resolve(name, names)] = bare[code]
        except CorpusError:
            continue  # A mapping may name more languages than the corpus has.
    return given


def _own_code(name: str, codes: Mapping[str, int]) -> str:
    """The tokenizer's code of a language, in the same script."""
    bare = {_bare(code): code for code in codes}
    try:
        code = name if name in bare else languages.resolve(name, bare)
    except CorpusError:
        code = ""
    if code not in bare or languages.script(code) not in (languages.script(name), None):
        shown = ", ".join(bare) if len(bare) <= 20 else f"{', '.join([*bare][:20])}, ..."
        raise ConfigError(
            f"the tokenizer has no code for the language {name}; set"
            f" lang_codes={{{name!r}: CODE}} with one of its codes ({shown}), or"
            " lang_codes='pivot'"
        )
    return bare[code]
