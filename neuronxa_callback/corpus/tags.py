"""Language codes taken apart: ISO 639, BCP 47, POSIX locales, and the codes of Wikipedia.

Only what is certain is resolved: an unregistered region, script or variant makes a code unknown.
"""

import re
from functools import cache
from typing import NamedTuple

from langcodes import Language
from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

FULL = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}(_\w+)?")
CODE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})*")
LOCALE = re.compile(r"(\w+?)(?:\.(?:utf-?8|iso-?8859-?\d+))?(?:@(\w+))?", re.IGNORECASE)
REGION = re.compile(r"[A-Za-z]{2}|\d{3}")

# A macrolanguage, or another name of the same language, -> the code of FLORES-200.
USUAL = {
    "ara": "arb", "aym": "ayr", "aze": "azj", "cmn": "zho", "din": "dik", "ekk": "est",
    "fas": "pes", "fil": "tgl", "ful": "fuv", "gug": "grn", "kau": "knc", "kur": "kmr",
    "lav": "lvs", "mlg": "plt", "mon": "khk", "msa": "zsm", "nep": "npi", "nor": "nob",
    "ori": "ory", "orm": "gaz", "pus": "pbt", "que": "quy", "sqi": "als", "swa": "swh",
    "uzb": "uzn", "yid": "ydd",
}  # fmt: skip
SPECIAL = {
    # Wikipedia and MediaWiki
    "bat-smg": "sgs_Latn", "be-x-old": "bel_Cyrl_tarask", "cbk-zam": "cbk_Latn",
    "fiu-vro": "vro_Latn", "roa-rup": "rup_Latn", "roa-tara": "nap_Latn_tara",
    "sr-ec": "srp_Cyrl", "sr-el": "srp_Latn", "zh-classical": "lzh_Hant",
    "zh-min-nan": "nan_Latn", "nds-nl": "nds_Latn_nl",
    # withdrawn tags of IANA, with their replacements
    "i-hak": "hak_Hans", "i-klingon": "tlh_Latn", "i-lux": "ltz_Latn", "i-navajo": "nav_Latn",
    "no-bok": "nob_Latn", "no-nyn": "nno_Latn", "zh-guoyu": "zho_Hans", "zh-hakka": "hak_Hans",
    "zh-xiang": "hsn_Hans",
    # regions that mean another language
    "fa-af": "prs_Arab", "fas-af": "prs_Arab", "per-af": "prs_Arab", "az-ir": "azb_Arab",
    "uz-af": "uzs_Arab",
}  # fmt: skip
"""Codes that are not what their parts say."""
UNSURE = ("ku-iq", "ku-ir", "map-bms", "simple", "eml", "nah")
"""Codes of several languages, or of none that ISO 639-3 has: never resolved."""
SECOND_LANGUAGES = (
    "ar-il", "bn-in", "de-be", "de-ch", "en-hk", "en-in", "en-ke", "en-ng", "en-sg", "en-za",
    "es-us", "fr-be", "fr-ca", "fr-ch", "hr-ba", "it-ch", "nl-be", "pa-pk", "sr-ba", "sr-me",
    "sv-fi", "ta-lk", "ta-sg", "ur-in", "zh-my", "zh-sg",
)  # fmt: skip
"""Languages of a region that are not its first one; in small letters, too, these are locales."""
MODIFIERS = {
    "latin": "Latn", "cyrillic": "Cyrl", "arabic": "Arab", "devanagari": "Deva",
    "iqtelif": "Latn", "hebrew": "Hebr", "greek": "Grek", "euro": "",
}  # fmt: skip
"""Modifiers of POSIX locales -> script; ``@euro`` is a currency."""
USUAL_SCRIPTS = {"Kore": "Hang"}


class Tag(NamedTuple):
    """The parts of a code: language (ISO 639-3 as in FLORES), script and the rest."""

    language: str
    script: str | None
    rest: str


def parse_tag(text: str) -> Tag | None:
    """The parts of a code in any usual form; None if it is no code, or not for sure.

    >>> parse_tag("zh-yue"), parse_tag("uz@cyrillic")
    (Tag(language='yue', script=None, rest=''), Tag(language='uzn', script='Cyrl', rest=''))
    """
    if FULL.fullmatch(text):
        return _parse_parts(text.split("_"))
    key = text.replace("_", "-").lower()
    if key in UNSURE:
        return None
    if key in SPECIAL:
        language, script, *rest = SPECIAL[key].split("_")
        return Tag(language, script, "_".join(rest))
    locale = LOCALE.fullmatch(text)
    if locale and locale[1] != text:
        return _parse_locale(locale[1], locale[2])
    return _parse_parts(key.split("-")) if CODE.fullmatch(text) else None


def is_special(text: str) -> bool:
    """Whether a code is not what its parts say, as several of Wikipedia's are."""
    return text.replace("_", "-").lower() in SPECIAL


def is_language_pair(text: str) -> bool:
    """Whether a code in small letters may be two languages: ``en-de``, but not ``pt-br``.

    It is a region if the language is the usual one of the region, or in ``SECOND_LANGUAGES``.
    """
    match = re.fullmatch("([a-z]{2,3})[_-]([a-z]{2})", text)
    if match is None or is_special(text) or f"{match[1]}-{match[2]}" in SECOND_LANGUAGES:
        return False
    usual = Language.make(territory=match[2].upper()).maximize().language
    language = Language.get(match[1]).language or ""
    is_usual = usual in (language, MACROLANGUAGES.get(language))
    return not is_usual and language_exists(match[2])


def language_exists(language: str) -> bool:
    """Whether ISO 639 lists a language."""
    tags = Language.get(language, normalize=False), Language.get(language)
    return any(bool(tag.is_valid()) for tag in tags)


@cache
def likely_script(language: str) -> str | None:
    """The usual script of an ISO 639 language (CLDR); None if CLDR does not list it.

    A member of a macrolanguage that CLDR leaves out has the script of the macrolanguage, except
    in Chinese, whose members are written in several scripts.
    """
    tag = Language.get(language)
    macro = MACROLANGUAGES.get(language)
    known = {language, tag.language, tag.prefer_macrolanguage().language} & LIKELY_SUBTAGS.keys()
    if not known and macro in LIKELY_SUBTAGS and macro != "zh" and language in USUAL.values():
        tag, known = Language.get(macro), {macro}
    if not known:
        return None
    script = str(tag.maximize().script)
    return USUAL_SCRIPTS.get(script, script)


def _parse_locale(code: str, modifier: str | None) -> Tag | None:
    """The parts of a POSIX locale, ``sr_RS.UTF-8@latin``."""
    tag = parse_tag(code)
    if tag is None or modifier is None:
        return tag
    if modifier.lower() in MODIFIERS:
        return tag._replace(script=MODIFIERS[modifier.lower()] or tag.script)
    return parse_tag(f"{code}-{modifier}")


def _parse_parts(parts: list[str]) -> Tag | None:
    first, *others = parts
    first = first.lower()
    raw = Language.get(first, normalize=False)
    usual = raw if len(first) == 3 and raw.is_valid() else Language.get(first)
    if others and re.fullmatch("[a-z]{3}", others[0]):
        # An extended language, ``zh-yue``: a member of the macrolanguage in front of it.
        is_member = first == "sgn" or MACROLANGUAGES.get(others[0]) == usual.language
        if not is_member or not language_exists(others[0]):
            return None
        return _parse_parts(others)
    script = next((part.title() for part in others if re.fullmatch("[A-Za-z]{4}", part)), None)
    region = next((part for part in others if REGION.fullmatch(part)), None)
    rest = [part for part in others if part.title() != script and part != region]
    if not FULL.fullmatch("_".join(parts)) and not _is_registered(usual, script, region, rest):
        return None
    try:
        language = usual.to_alpha3()
    except LookupError:
        language = first
    return Tag(
        USUAL.get(language, language),
        script or _script_of_region(usual, region) or usual.script,
        "_".join(rest),
    )


def _is_registered(
    language: Language, script: str | None, region: str | None, rest: list[str]
) -> bool:
    """Whether IANA lists the parts behind the language; there need be none."""
    behind = [part for part in (script, region and region.upper(), *rest) if part]
    tag = "-".join([language.language or "und" if language.is_valid() else "und", *behind])
    try:
        return not behind or bool(Language.get(tag, normalize=False).is_valid())
    except ValueError:
        return False


def _script_of_region(usual: Language, region: str | None) -> str | None:
    """The script that a region implies, where it is not the usual one: zh-TW is in Hant."""
    if not region or not usual.is_valid():
        return None
    if MACROLANGUAGES.get(usual.language) == "zh" and region.upper() in ("TW", "HK", "MO"):
        return "Hant"
    regional = Language.make(language=usual.language, territory=region.upper())
    implied = regional.maximize().script
    return implied if implied != likely_script(usual.language or "") else None
