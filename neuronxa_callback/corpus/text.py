"""How a sentence is normalized, compared and validated. Standard library only."""

import unicodedata


def normalize_sentence(text: str) -> str:
    """The sentence as it is measured: Unicode NFC, without surrounding white space or BOM."""
    text = unicodedata.normalize("NFC", text).strip()
    while text.startswith("\ufeff") or text.endswith("\ufeff"):
        text = text.strip("\ufeff").strip()
    return text


def comparison_key(text: str) -> str:
    """A key that is equal for two sentences that differ in white space only."""
    return " ".join(text.split())


def find_fault(text: str) -> str | None:
    """Why a sentence cannot be measured at all, or None."""
    if not any(map(_is_visible, text)):
        return "is blank"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "contains half a surrogate pair, which is not valid Unicode"
    return None


def shorten(text: str, limit: int = 60) -> str:
    """The beginning of a sentence, for a message."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _is_visible(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) not in ("Zs", "Zl", "Zp", "Cc", "Cf")
