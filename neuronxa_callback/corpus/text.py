"""How a sentence is normalized, compared and validated. Standard library only."""

import html
import re
import unicodedata
from collections.abc import Sequence

INLINE = ("a", "b", "br", "em", "font", "i", "s", "small", "span", "strong", "sub", "sup", "u")
TAG = re.compile(r"</?([A-Za-z][\w:.-]*)(?:\s[^<>]*)?/?>|<[?!][^<>]*>")
SURROGATE = re.compile("[\ud800-\udfff]")
PLACEHOLDER = re.compile(
    r"__[A-Za-z]+__|_[A-Z]+_|[\[<{]{1,2}[A-Z][A-Z_ ]+[\]>}]{1,2}|\[\[\w+\]\]|\{+\w+\}+"
    r"|#(?:N/A|REF!|VALUE!|NAME\?|NULL!)|N/?A|n/a|NULL|None|NaN|nan|\\N"
    r"|[-\u2010-\u2015\u2212_.\u2026*=~?#\u266a ]+"
)
"""A hole of a table, or a line of dashes, dots or question marks."""


def normalize_sentence(text: str) -> str:
    """The sentence as it is measured: Unicode NFC, without surrounding white space or BOM."""
    text = unicodedata.normalize("NFC", text).strip()
    while text.startswith("\ufeff") or text.endswith("\ufeff"):
        text = text.strip("\ufeff").strip()
    return text


def comparison_key(text: str) -> str:
    """A key that is equal for two sentences that differ in white space only."""
    if "  " not in text and text.isprintable():
        return text.strip()  # the usual case: the only white space is a single space
    return " ".join(text.split())


def find_fault(text: str) -> str | None:
    """Why a sentence cannot be measured at all, or None."""
    if is_blank_text(text):
        return "is blank"
    if "\0" in text:
        return "contains the character NUL; is it UTF-16 or UTF-32?"
    if is_marker(text):
        return f"is a marker, not a sentence: {shorten(text)!r}"
    if not text.isascii() and SURROGATE.search(text):
        return "contains half a surrogate pair, which is not valid Unicode"
    return None


def is_marker(text: str) -> bool:
    """Whether a line is markup or a placeholder: ``<range>``, ``</doc>``, ``<url>...</url>``.

    >>> [is_marker(line) for line in ("__NULL__", "N/A", "<seg id='1'> Yes. </seg>", "<i>Yes.</i>")]
    [True, True, True, False]
    """
    if "&" in text:
        text = html.unescape(text)
    text = text.strip()
    if PLACEHOLDER.fullmatch(text) or not text:
        return True
    if not text.startswith("<") or not text.endswith(">"):
        return False
    tags = [match[1] or "" for match in TAG.finditer(text)]
    is_markup = bool(tags) and TAG.match(text) is not None
    return is_markup and (tags[0].lower() not in INLINE or is_blank_text(TAG.sub("", text)))


def shorten(text: str, limit: int = 60) -> str:
    """The beginning of a sentence, for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def is_blank_text(text: str) -> bool:
    """Whether a text has no visible character: white space and zero-width characters only."""
    return not text[:1].isalnum() and not any(map(_is_visible, text))


def _is_visible(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) not in ("Zs", "Zl", "Zp", "Cc", "Cf")


def shortlist(names: Sequence[str], most: int = 8) -> str:
    """The first names and the number of the others, for a message."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
