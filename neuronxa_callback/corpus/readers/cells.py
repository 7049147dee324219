"""Whether the cells of a column look like sentences."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from neuronxa_callback.corpus.text import is_marker
from neuronxa_callback.errors import kind_of

ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://|www\.|mailto:)\S*|[\w.+-]+@[\w-]+\.[\w.-]+")
PATH = re.compile(r"[\w.~-]*(?:/[\w.~-]+)+/?|[\w~-]+\.[A-Za-z0-9]{2,4}", re.ASCII)
IDENTIFIER = re.compile(r"(?=\S*[\d_#])[\w#:./|+=-]+", re.ASCII)
WORDS = ("true", "false", "yes", "no")
CODE = re.compile(r"[A-Z][A-Z_]{0,7}")
MIN_CONSTANT, MIN_LABELS = 3, 6
"""With fewer cells, a repeated cell or word is not yet a label."""
MAX_DISTINCT = 0.5
"""Labels repeat: at most this share of the cells differ."""


def other_content(cells: Sequence[Any]) -> str | None:
    """What the cells of a column are, if they do not look like sentences; else None.

    >>> other_content(["1", "2", "3"]), other_content(["doc-001", "doc-002"])
    ('numbers', 'identifiers')
    >>> other_content(["Guten Tag.", "Danke.", "12"])

    Args:
        cells: Some values of the column, of any type; missing ones are ignored.
    """
    values = [cell for cell in cells if not _is_missing(cell)]
    if not values:
        return "empty" if cells else None
    kinds = Counter(kind for kind in map(_kind, values) if kind)
    if 2 * kinds.total() > len(values):
        return kinds.most_common(1)[0][0]
    texts = [str(value).strip() for value in values if _kind(value) is None]
    if len(texts) >= MIN_CONSTANT and len(set(texts)) == 1:
        return "all the same"
    repeat = len(texts) >= MIN_LABELS and len(set(texts)) <= MAX_DISTINCT * len(texts)
    is_labels = repeat and all(len(text.split()) == 1 and text.isascii() for text in texts)
    return "labels" if is_labels else None


def _is_missing(cell: Any) -> bool:
    if isinstance(cell, float) and cell != cell:
        return True
    return cell is None or (isinstance(cell, str) and (not cell.strip() or is_marker(cell)))


def _kind(cell: Any) -> str | None:
    """What a value is, or None if it may be a sentence."""
    if isinstance(cell, bool):
        return "yes or no"
    if isinstance(cell, int | float):
        return "numbers"
    if not isinstance(cell, str):
        return f"of type {kind_of(cell)}"
    text = cell.strip()
    if text.casefold() in WORDS:
        return "yes or no"
    if not any(map(str.isalnum, text)):
        return None
    if not any(map(str.isalpha, text)):
        return "numbers"
    if ADDRESS.fullmatch(text):
        return "web addresses"
    if IDENTIFIER.fullmatch(text):
        return "identifiers"
    if CODE.fullmatch(text):
        return "codes"
    if PATH.fullmatch(text):
        return "file names"
    if text[0] + text[-1] in ("{}", "[]"):
        return "JSON"
    return None
