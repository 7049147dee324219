"""Language codes in any usual form, and what they are called.

The form used throughout is that of FLORES-200: ``deu_Latn``, an ISO 639-3 code and an ISO 15924
script. ``de``, ``deu``, ``de-DE`` and ``German`` mean the same. A bare language means its usual
script (CLDR likely subtags). Codes that nobody knows are kept where a file name carries them.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple

from langcodes import Language
from langcodes.data_dicts import LIKELY_SUBTAGS
from language_data.names import (  # type: ignore[import-untyped,unused-ignore]
    load_trie,
    normalize_name,
)
from language_data.util import data_filename  # type: ignore[import-untyped,unused-ignore]

from neuronxa_callback.errors import CorpusError

FULL = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}(_\w+)?")
CODE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")

# A macrolanguage, or another name of the same language, -> the code of FLORES-200.
USUAL = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "cmn": "zho", "din": "dik", "ekk": "est",
    "fas": "pes", "fil": "tgl", "ful": "fuv", "gug": "grn", "kau": "knc", "kur": "kmr",
    "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi", "nor": "nob",
    "ori": "ory", "orm": "gaz", "pus": "pbt", "que": "quy", "sqi": "als", "swa": "swh",
    "uzb": "uzn", "yid": "ydd",
}  # fmt: skip
CAPITAL_NOUNS = ("bar", "deu", "gsw", "ksh", "ltz", "nds", "pfl", "vmf")
"""German and its neighbours: a capital inside a sentence says noun, not name."""
USUAL_SCRIPTS = {"Kore": "Hang"}
PLAIN_NAMES = {
    "arb": "Arabic",
    "npi": "Nepali",
    "ory": "Odia",
    "pes": "Persian",
    "prs": "Dari",
    "swh": "Swahili",
    "tgl": "Tagalog",
}


class Tag(NamedTuple):
    """What a code says: its language (ISO 639-3, FLORES usage), its script and what follows."""

    language: str
    script: str | None
    rest: str


def resolve(code_or_name: str, known: Iterable[str] | None = None) -> str:
    """The code of a language that is given in any usual form.

    Args:
        code_or_name: For instance ``de``, ``deu``, ``deu_Latn``, ``zh-Hans``, ``German``.
        known: The codes to choose from; None for all the world's languages.

    Returns:
        One of ``known``, as it is written there; without ``known`` a code like ``deu_Latn``.

    Raises:
        CorpusError: If the language is unknown, or several of ``known`` could be meant.
    """
    codes = None if known is None else tuple(known)
    if codes and code_or_name in codes:
        return code_or_name
    tag = _tag(code_or_name)
    if codes is not None:
        return _chosen(code_or_name, tag, codes)
    if tag is None or not _exists(tag.language):
        raise CorpusError(_unknown(code_or_name, None))
    return _written(tag)


def of_file(stem: str) -> str | None:
    """The code that a file's name carries, or None where it carries none.

    A full code stays as it is; other forms are resolved; what looks like a code but is in no
    list (``xyz``) is kept.
    """
    if FULL.fullmatch(stem):
        return stem
    tag = _tag(stem)
    if tag is None or (tag.rest and not tag.script and not _exists(tag.language)):
        return None
    return _written(tag) if _exists(tag.language) else stem


def name(code: str) -> str:
    """The English name of a code: ``German``, ``Chinese (Simplified)``; the code if it has none."""
    tag = _tag(code)
    if tag is None or not _exists(tag.language):
        return code
    plain = PLAIN_NAMES.get(tag.language) or Language.get(tag.language).language_name()
    if tag.script is None or (tag.script == likely_script(tag.language) and tag.language != "zho"):
        return plain
    return f"{plain} ({Language.make(script=tag.script).script_name()})"


def script(code: str) -> str | None:
    """The ISO 15924 script of a code, its usual one where it names none; None if unknown."""
    tag = _tag(code)
    return None if tag is None else tag.script or likely_script(tag.language)


def capital_nouns(code: str) -> bool:
    """Whether the language writes every noun with a capital, as German does."""
    tag = _tag(code)
    return tag is not None and tag.language in CAPITAL_NOUNS


def script_name(code: str) -> str | None:
    """What the script of a code is called in English; None if unknown."""
    found = script(code)
    if found in ("Hans", "Hant"):
        return "Chinese"
    return str(Language.make(script=found).script_name()) if found else None


@cache
def likely_script(language: str) -> str | None:
    """The usual script of an ISO 639 language (CLDR); None where CLDR does not know it."""
    tag = Language.get(language)
    if {language, tag.language, tag.prefer_macrolanguage().language} & LIKELY_SUBTAGS.keys():
        script = str(tag.maximize().script)
        return USUAL_SCRIPTS.get(script, script)
    return None


@cache
def _tag(text: str) -> Tag | None:
    """What a code or a name says, or None where it is neither."""
    text = text.strip()
    named = next(
        (spoken for spoken in ("en", "und") if _named(text, spoken)),
        None,
    )
    if CODE.fullmatch(text):
        found = _tag_of_code(text)
        if _exists(found.language) or not named:
            return found
    # The library also takes a name with something behind it ("Metadata" for Meta'), we do not.
    if not named:
        return _tag_of_both(text)
    meant = Language.find(text, named)
    if (meant.language, meant.territory) == ("fa", "AF"):
        return Tag("prs", meant.script, "")
    return _tag_of_code(meant.to_tag())


def _tag_of_both(text: str) -> Tag | None:
    """What a name with a script says, as ``name`` writes it: ``Serbian (Latin)``."""
    match = re.fullmatch(r"(.+) \((\w+)\)", text)
    tag = match and _tag(match[1])
    if not match or not tag:
        return None
    try:
        return tag._replace(script=Language.find_name("script", match[2], "en").script)
    except LookupError:
        return None


def _named(text: str, spoken: str) -> bool:
    """Whether a text is the name of a language in a language, ``und`` for in any."""
    return text.isprintable() and normalize_name(text) in _names(spoken)


def _tag_of_code(text: str) -> Tag:
    first, *others = text.replace("_", "-").split("-")
    raw = Language.get(first.lower(), normalize=False)
    usual = raw if len(first) == 3 and raw.is_valid() else Language.get(first)
    written = next((part.title() for part in others if re.fullmatch("[A-Za-z]{4}", part)), None)
    territory = next((part for part in others if re.fullmatch("[A-Za-z]{2}", part)), None)
    if territory and not written and usual.is_valid():
        # zh-TW is written in Hant without saying so.
        regional = Language.make(language=usual.language, territory=territory.upper())
        implied = regional.maximize().script
        written = implied if implied != likely_script(usual.language or "") else None
    try:
        language = usual.to_alpha3()
    except LookupError:
        language = first.lower()
    rest = "_".join(part for part in others if part.title() != written and part != territory)
    return Tag(USUAL.get(language, language), written or usual.script, rest)


def _written(tag: Tag) -> str:
    script = tag.script or likely_script(tag.language)
    return "_".join(part for part in (tag.language, script, tag.rest) if part)


def _exists(language: str) -> bool:
    tags = Language.get(language, normalize=False), Language.get(language)
    return any(bool(tag.is_valid()) for tag in tags)


def _chosen(wanted: str, tag: Tag | None, codes: Sequence[str]) -> str:
    """Which of the codes is meant: the same language, in the script given or else the usual one."""
    tags = {code: _tag(code) for code in codes}
    if tag is None:
        raise CorpusError(_unknown(wanted, codes))
    near = [code for code, each in tags.items() if each and each.language == tag.language]
    script = tag.script or (likely_script(tag.language) if len(near) > 1 else None)
    if script:
        exact = [code for code in near if (tags[code] or tag).script in (script, None)]
        near = exact if exact or tag.script else near
    plain = [code for code in near if (tags[code] or tag).rest == tag.rest]
    near = plain or near
    if len(near) == 1:
        return near[0]
    if near:
        raise CorpusError(f"language {wanted!r} may be {' or '.join(near)}; say which")
    raise CorpusError(_unknown(wanted, codes))


def _unknown(wanted: str, codes: Sequence[str] | None) -> str:
    """One sentence with the nearest codes and names; all of them only where they are few."""
    if codes is None:
        names = [each for each in iter(_names("en")) if abs(len(each) - len(wanted)) < 4]
        near = difflib.get_close_matches(normalize_name(wanted), names, n=3, cutoff=0.7)
        shown = [f"{each.title()!r} ({resolve(each)})" for each in near]
        known = ""
    else:
        spoken = {name(code).casefold(): code for code in codes} | {c.casefold(): c for c in codes}
        tag = _tag(wanted)
        kin = [each for each in codes if tag and (_tag(each) or tag)[0] == tag.language]
        # What is a language, but not here, is no slip of the pen.
        slip = tag is None or not _exists(tag.language)
        hits = difflib.get_close_matches(wanted.casefold(), list(spoken) if slip else [])
        shown = [repr(code) for code in dict.fromkeys([*kin, *(spoken[each] for each in hits)])]
        listed = ", ".join(codes) if len(codes) <= 60 else f"{len(codes)} languages"
        known = f" (known: {listed})"
    guess = f"; did you mean {' or '.join(shown)}?" if shown else ""
    return f"unknown language: {wanted!r}{guess}{known}"


@cache
def _names(spoken: str) -> Any:
    """All names of languages in a language, ``und`` for in any, as a searchable collection."""
    return load_trie(data_filename(f"trie/{spoken}/name_to_language.marisa"))
