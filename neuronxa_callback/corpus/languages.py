"""Language codes in any usual form, and their names and scripts.

The package uses the form of FLORES-200: ``deu_Latn``, an ISO 639-3 code and an ISO 15924 script.
``de``, ``deu``, ``de-DE`` and ``German`` mean the same. A language without a script means its
usual script (CLDR likely subtags). Unknown codes in file names are kept.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from langcodes import Language
from language_data.names import (  # type: ignore[import-untyped,unused-ignore]
    load_trie,
    normalize_name,
)
from language_data.util import data_filename  # type: ignore[import-untyped,unused-ignore]

from neuronxa_callback.corpus.tags import (
    FULL,
    REGION,
    Tag,
    is_language_pair,
    is_special,
    language_exists,
    likely_script,
    parse_tag,
)
from neuronxa_callback.errors import CorpusError

CAPITAL_NOUNS = ("bar", "deu", "gsw", "ksh", "ltz", "nds", "pfl", "vmf")
"""German and related languages: a capital inside a sentence marks a noun, not a name."""
COMMON = """
abs aff aid all ann ans are asc ask aud aut aux avg bad bat bench bid bio bit box bpe buf cap cfg
cid ckp cmd cnt col column com con ctx cur dat day del dep dev dic did dif dim dir doc dom dst dup
edu eid emb end env eos err eva even exe exp fid fig fix fmt fun gen gid git gld gpt gra gun has
hid hit hyp ids idx img inc inf ini inp ins int iso iss job key lab label law lbl lem len lex lid
lnk loc log lst map max med mem met meta mid mis mod msg mul nat nbr ner new nid non not npy npz
nrm num obj off old oov opt org out own par pdf pic pid pkl png pos pre pro psn pub qid rad ran
raw rec ref reg rel rep res rev rid row rte rtf sec seg sel seq set sex sgm sha sig sim siz snt
sou spk spm sql src srt sta std str sub sum sys tab tag tar tax ten ter tgt tgx tgz tid tim tit
tmp tmx tok top tot trg trn tst two txt typ uid und uri url usr val var vcb ver vid vis voc vtt
who wid win wmt www xls xml yes yml zip zxx
"""
WORDS = frozenset(COMMON.split())
"""Words in names of columns and files that are also codes or names of rare languages."""
NAME_AND_PART = re.compile(r"(.+) \(([\w ]+)\)")
PLAIN_NAMES = {
    "arb": "Arabic",
    "npi": "Nepali",
    "ory": "Odia",
    "pes": "Persian",
    "prs": "Dari",
    "swh": "Swahili",
    "tgl": "Tagalog",
}


def resolve(code_or_name: str, known: Iterable[str] | None = None) -> str:
    """The code of a language given in any usual form.

    >>> resolve("German"), resolve("zh-TW"), resolve("sw", ["deu_Latn", "swh_Latn"])
    ('deu_Latn', 'zho_Hant', 'swh_Latn')

    Args:
        code_or_name: For instance ``de``, ``deu``, ``deu_Latn``, ``zh-Hans``, ``German``.
        known: The codes to choose from; None for all languages of ISO 639.

    Returns:
        One of ``known``, unchanged; without ``known`` a code like ``deu_Latn``.

    Raises:
        CorpusError: If the language is unknown, or several of ``known`` match.
    """
    codes = None if known is None else tuple(known)
    if codes and code_or_name in codes:
        return code_or_name
    tag = _tag(code_or_name)
    if codes is not None:
        return _choose(code_or_name, tag, codes)
    if tag is None or not language_exists(tag.language):
        raise CorpusError(_unknown(code_or_name))
    return _format(tag)


def resolve_all(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The codes that names mean, each once; a single name may be given as a string.

    Raises:
        CorpusError: As ``resolve`` does.
    """
    codes = tuple(known)
    names = (names,) if isinstance(names, str) else names
    # The order of a set differs between the processes of a distributed run.
    names = sorted(names) if isinstance(names, set | frozenset) else names
    return list(dict.fromkeys(resolve(name, codes) for name in names))


def code_of_name(stem: str) -> str | None:
    """The code in the name of a file or column, or None.

    A full code is kept, other forms are resolved, and an unlisted code (``xyz``) is kept. Usual
    names of columns and files that are also codes (``src``, ``txt``) are none; nor is the name
    of a language in a third language.

    >>> code_of_name("pt-BR"), code_of_name("src"), code_of_name("src_Latn")
    ('por_Latn', None, 'src_Latn')
    """
    if FULL.fullmatch(stem):
        return stem
    tag = _tag(stem)
    is_word = re.split("[-_]", stem.lower())[0] in WORDS and not is_special(stem)
    if tag is None or is_word or is_language_pair(stem):
        return None
    if not language_exists(tag.language):
        return stem if re.fullmatch("[A-Za-z]{3}", stem) else None
    code = parse_tag(stem.strip())
    is_code = code is not None and language_exists(code.language)
    return _format(tag) if is_code or _is_own_name(stem, tag) else None


def name(code: str) -> str:
    """The English name of a language: ``German``, ``Chinese (Simplified)``; else its code."""
    tag = _tag(code)
    if tag is None or not language_exists(tag.language):
        return code
    plain = PLAIN_NAMES.get(tag.language) or Language.get(tag.language).language_name()
    if tag.script is None or (tag.script == likely_script(tag.language) and tag.language != "zho"):
        return plain
    return f"{plain} ({Language.make(script=tag.script).script_name()})"


def script(code: str) -> str | None:
    """The ISO 15924 script of a code, or its language's usual script; None if unknown."""
    tag = _tag(code)
    return None if tag is None else tag.script or likely_script(tag.language)


@cache
def region(code_or_name: str) -> str | None:
    """The region in a code or name (ISO 3166 or UN M.49); None if it has none.

    >>> region("fra-CA"), region("Spanish (Mexico)"), region("fra_Latn")
    ('CA', 'MX', None)
    """
    text = code_or_name.strip()
    tag = parse_tag(text)
    if tag is not None and language_exists(tag.language):
        parts = [] if is_special(text) else re.split("[-_]", re.split("[.@]", text)[0])[1:]
        return next((part.upper() for part in parts if REGION.fullmatch(part)), None)
    match = NAME_AND_PART.fullmatch(text)
    try:
        if match:
            found = Language.find_name("territory", match[2], "en").territory
            return None if found is None else str(found)
        return Language.find(text, "en").territory if _is_name(text, "en") else None
    except LookupError:
        return None


def capital_nouns(code: str) -> bool:
    """Whether the language capitalizes every noun, as German does."""
    tag = _tag(code)
    return tag is not None and tag.language in CAPITAL_NOUNS


def script_name(code: str) -> str | None:
    """The English name of a code's script; None if unknown."""
    code_script = script(code)
    if code_script in ("Hans", "Hant"):
        return "Chinese"
    return str(Language.make(script=code_script).script_name()) if code_script else None


@cache
def _tag(text: str) -> Tag | None:
    """The parts of a code or a name, or None if it is neither."""
    text = text.strip()
    tag = parse_tag(text)
    if tag is not None and language_exists(tag.language):
        return tag
    locale = next((locale for locale in ("en", "und") if _is_name(text, locale)), None)
    # Language.find also accepts a name with a suffix ("Metadata" for Meta'), which is wrong here.
    if not locale:
        return tag or _tag_of_name_and_script(text)
    language = Language.find(text, locale)
    if (language.language, language.territory) == ("fa", "AF"):
        return Tag("prs", language.script, "")
    return parse_tag(language.to_tag())


def _tag_of_name_and_script(text: str) -> Tag | None:
    """The parts of a name with a script or region: ``Serbian (Latin)``, ``Portuguese (Brazil)``."""
    match = NAME_AND_PART.fullmatch(text)
    tag = match and _tag(match[1])
    if not match or not tag:
        return None
    try:
        return tag._replace(script=Language.find_name("script", match[2], "en").script)
    except LookupError:
        pass
    try:
        region = Language.find_name("territory", match[2], "en").territory
    except LookupError:
        return None
    return parse_tag(f"{tag.language}-{region}")


def _is_name(text: str, locale: str) -> bool:
    """Whether a text is a language's name in the language ``locale``; ``und`` for any."""
    return text.isprintable() and normalize_name(text) in _names(locale)


def _is_own_name(text: str, tag: Tag) -> bool:
    """Whether a name is in English or in the language itself."""
    if len(text) < 3 and text.isascii():
        return False
    if _is_name(text, "en") or _tag_of_name_and_script(text):
        return True
    own = Language.get(tag.language).autonym().casefold()
    return normalize_name(text) in (own, normalize_name(own))


def _format(tag: Tag) -> str:
    script = tag.script or likely_script(tag.language)
    return "_".join(part for part in (tag.language, script, tag.rest) if part)


def _choose(text: str, tag: Tag | None, codes: Sequence[str]) -> str:
    """The one of the codes with the same language, and the given or else the usual script."""
    if tag is None:
        raise CorpusError(_unknown_in(text, codes))
    tags = {code: _tag(code) for code in codes}
    matches = [code for code, other in tags.items() if other and other.language == tag.language]
    script = tag.script or (likely_script(tag.language) if len(matches) > 1 else None)
    if script:
        exact = [code for code in matches if (tags[code] or tag).script in (script, None)]
        matches = exact if exact or tag.script else matches
    matches = [code for code in matches if (tags[code] or tag).rest == tag.rest] or matches
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise CorpusError(f"language {text!r} is ambiguous; use one of {', '.join(matches)}")
    raise CorpusError(_unknown_in(text, codes))


def _unknown(text: str) -> str:
    """The message for an unknown language, with the nearest names of languages."""
    names = [known for known in iter(_names("en")) if abs(len(known) - len(text)) < 4]
    near = difflib.get_close_matches(normalize_name(text), names, n=3, cutoff=0.7)
    return f"unknown language: {text!r}" + _suggest(
        [f"{known.title()!r} ({resolve(known)})" for known in near]
    )


def _unknown_in(text: str, codes: Sequence[str]) -> str:
    """The same with the nearest of the codes; lists all codes if they are few."""
    code_by_name = {name(code).casefold(): code for code in codes}
    code_by_name |= {code.casefold(): code for code in codes}
    tag = _tag(text)
    related = [code for code in codes if tag and (_tag(code) or tag).language == tag.language]
    # A language that exists, but not in this corpus, is not a typing error.
    misspelt = tag is None or not language_exists(tag.language)
    near = difflib.get_close_matches(text.casefold(), list(code_by_name) if misspelt else [])
    shown = dict.fromkeys([*related, *(code_by_name[match] for match in near)])
    listed = ", ".join(codes) if len(codes) <= 60 else f"{len(codes)} languages"
    return f"unknown language: {text!r}{_suggest(list(map(repr, shown)))} (known: {listed})"


def _suggest(names: Sequence[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""


@cache
def _names(locale: str) -> Any:
    """All language names in the language ``locale``, ``und`` for any, as a searchable trie."""
    return load_trie(data_filename(f"trie/{locale}/name_to_language.marisa"))
