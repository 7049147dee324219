"""The writing system of a letter, by its name in the Unicode database."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

# ISO 15924 -> the first words of the Unicode names of its letters.
LETTERS = {
    "Adlm": ("ADLAM",), "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",),
    "Cans": ("CANADIAN",), "Cher": ("CHEROKEE",), "Cyrl": ("CYRILLIC",), "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",), "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",), "Hang": ("HANGUL", "CJK"), "Hans": ("CJK",), "Hant": ("CJK", "BOPOMOFO"),
    "Jpan": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC"),
    "Hebr": ("HEBREW",), "Khmr": ("KHMER",), "Knda": ("KANNADA",),
    "Kore": ("HANGUL", "CJK"), "Laoo": ("LAO",),
    "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mong": ("MONGOLIAN",), "Mtei": ("MEETEI",),
    "Mymr": ("MYANMAR",), "Nkoo": ("NKO",), "Olck": ("OL",), "Orya": ("ORIYA",),
    "Sinh": ("SINHALA",), "Syrc": ("SYRIAC",), "Taml": ("TAMIL",), "Telu": ("TELUGU",),
    "Tfng": ("TIFINAGH",), "Thaa": ("THAANA",), "Thai": ("THAI",), "Tibt": ("TIBETAN",),
    "Yiii": ("YI",),
}  # fmt: skip

LOOKALIKES = ("LATIN", "CYRILLIC", "GREEK")
"""Writing systems with similar letters: a word normally uses only one of them."""

UNSPACED = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")
"""Scripts that put no space between words."""

WORD = re.compile(r"[^\W\d_]+")


@cache
def system_of(letter: str) -> str | None:
    """The writing system of a letter, as the first word of its Unicode name; None for others.

    Modifier letters, such as an apostrophe that is a letter, belong to none.
    """
    if unicodedata.category(letter) not in ("Lu", "Ll", "Lt", "Lo"):
        return None
    letter = unicodedata.normalize("NFKC", letter)[:1]
    name = unicodedata.name(letter, "").split()
    return name[0] if name and letter.isalpha() else None


def systems(text: str) -> Counter[str]:
    """The number of letters of each writing system in a text."""
    return Counter(system for system in map(system_of, text) if system)


def expected(script: str | None, texts: Iterable[str]) -> tuple[str, ...]:
    """The writing systems of an ISO 15924 script; if it is not listed, the most common one."""
    if script in LETTERS:
        return LETTERS[script]
    total: Counter[str] = Counter()
    for text in texts:
        total += systems(text)
    return tuple(name for name, _ in total.most_common(1))


def mixed_word(text: str) -> str | None:
    """The first word that mixes similar writing systems, such as Latin and Cyrillic; or None."""
    if text.isascii():
        return None
    for word in WORD.findall(text):
        if len(systems(word).keys() & set(LOOKALIKES)) > 1:
            return str(word)
    return None
