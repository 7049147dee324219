"""What a sentence is: which characters count, and when two are the same. Standard library only."""

import unicodedata


def clean(text: str) -> str:
    """The sentence as it is measured: Unicode NFC, no white space or byte order mark around it."""
    text = unicodedata.normalize("NFC", text).strip()
    while text.startswith("\ufeff") or text.endswith("\ufeff"):
        text = text.strip("\ufeff").strip()
    return text


def same(text: str) -> str:
    """What two sentences have in common that count as the same: all but white space."""
    return " ".join(text.split())


def fault_of(text: str) -> str | None:
    """Why a sentence cannot be measured at all, or None."""
    if not any(map(_visible, text)):
        return "is blank"
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        return "holds half a surrogate pair, which is no Unicode text"
    return None


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a sentence, for a message."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _visible(letter: str) -> bool:
    return letter.isalnum() or unicodedata.category(letter) not in ("Zs", "Zl", "Zp", "Cc", "Cf")
