"""Quality rules for sentences: pure functions of lists of text.

Rows are numbered from 0. A rule reports rows and a message; ``check`` decides how severe it is.
"""

import math
import re
import statistics
import unicodedata
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import sparse

from neuronxa_callback.corpus.scripts import WORD, mixed_word, systems
from neuronxa_callback.corpus.surface import grams

NEAR = 0.9
"""Least cosine of the character 3-gram counts of two near-duplicates."""
MAX_COMPARED = 20_000
"""How many sentences are compared with each other; the work grows with the square."""
FOREIGN = 0.5
"""A greater share of letters of other scripts is suspicious; names may explain less."""
WRONG = 0.75
"""A greater share means that the sentence is in the wrong script."""
RATIO = math.log(2.5)
"""Least deviation of an outlier's log length ratio from the median."""
DEVIATIONS = 6.0
"""The same, in robust standard deviations."""

NUMBER = re.compile(r"\d+")
UNFINISHED = re.compile(r"\w[^\w.!?…:。！？।]*$")
"""Matches a text that a new sentence cannot follow: no end mark after its last letter."""
UNWANTED = {"\ufeff": "a byte order mark", "\ufffd": "a replacement character (lost text)"}

RowMessages = Iterator[tuple[int, str]]
"""Row and message of each suspicious row."""


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Pairs of rows with almost the same sentence: earlier row, later row, cosine."""
    rows = _unit_rows(texts[:MAX_COMPARED])
    duplicates = []
    for start in range(0, rows.shape[0], 1000):
        near = sparse.coo_array(rows[start : start + 1000] @ rows.T)
        keep = (near.data >= NEAR) & (near.row + start < near.col)
        duplicates += [
            (int(i) + start, int(j), float(value))
            for i, j, value in zip(near.row[keep], near.col[keep], near.data[keep], strict=True)
        ]
    return sorted(duplicates, key=lambda duplicate: (duplicate[1], duplicate[0]))


def copies(pivots: Sequence[str], texts: Sequence[str]) -> list[tuple[int, bool]]:
    """Untranslated rows: both sides are the same text (True) or almost the same (False)."""
    both = _unit_rows([*pivots, *texts])
    cosines = np.asarray(both[: len(pivots)].multiply(both[len(pivots) :]).sum(axis=1)).ravel()
    return [
        (i, _letters(pivot) == _letters(text))
        for i, (pivot, text) in enumerate(zip(pivots, texts, strict=True))
        if cosines[i] >= NEAR or _letters(pivot) == _letters(text)
    ]


def wrong_script(texts: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """Rows with many letters outside the wanted writing systems; True if far too many."""
    for i, text in enumerate(texts):
        counts = systems(text)
        total = sum(counts.values())
        foreign = total - sum(counts[name] for name in wanted)
        if total and foreign > FOREIGN * total:
            other = max(sorted(counts.keys() - set(wanted)), key=counts.__getitem__)
            message = f"{foreign} of {total} letters are {other.title()}"
            yield i, message, foreign > WRONG * total


def mixed_words(texts: Sequence[str]) -> RowMessages:
    """Rows with a word that mixes letters of two similar scripts."""
    for i, text in enumerate(texts):
        word = mixed_word(text)
        if word:
            names = " and ".join(sorted(name.title() for name in systems(word)))
            yield i, f"the word {word!r} mixes {names} letters"


def odd_lengths(pivots: Sequence[str], texts: Sequence[str]) -> RowMessages:
    """Rows whose length ratio is far from the language's median."""
    logs = [math.log(len(b) / len(a)) for a, b in zip(pivots, texts, strict=True)]
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(ratio - middle) for ratio in logs)
    for i, ratio in enumerate(logs):
        if abs(ratio - middle) > max(RATIO, DEVIATIONS * spread):
            usual = math.exp(middle) * len(pivots[i])
            yield (
                i,
                f"has {len(texts[i])} characters for {len(pivots[i])} of the pivot; about"
                f" {usual:.0f} are usual",
            )


def odd_characters(text: str) -> str | None:
    """A message on a byte order mark, a control character or lost text in a sentence, or None."""
    for letter in text:
        if letter in UNWANTED:
            return f"contains {UNWANTED[letter]}"
        if not letter.isprintable() and unicodedata.category(letter) in ("Cc", "Zl", "Zp"):
            return f"contains the control character U+{ord(letter):04X}"
    return None


def numbers(text: str) -> set[str]:
    """The numbers in a sentence, in the digits of any script."""
    return set(NUMBER.findall(text))


def names(text: str) -> set[str]:
    """Likely names: capitalized words that do not begin a sentence.

    Other words may be capitalized too; names in scripts without capitals are not recognized.
    """
    return {
        match.group()
        for match in WORD.finditer(text)
        if len(match.group()) > 1
        and match.group()[0].isupper()
        and UNFINISHED.search(text[: match.start()])
    }


def rows_with(
    pairs: Sequence[tuple[str, str]],
    find: Callable[[str], set[str]],
    uninformative: Sequence[bool] = (False, False),
) -> tuple[list[int], int]:
    """Rows in which a side has a number or name, and in how many both sides share one.

    Args:
        pairs: Sentences and their translations.
        find: ``numbers`` or ``names``.
        uninformative: Per side, whether to ignore matches that the other side does not share.
    """
    rows, common = [], 0
    for i, pair in enumerate(pairs):
        one, other = map(find, pair)
        common += bool(one & other)
        if one & other or (one and not uninformative[0]) or (other and not uninformative[1]):
            rows.append(i)
    return rows, common


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _unit_rows(texts: Sequence[str]) -> sparse.csr_array:
    """Character 3-gram counts [texts, grams], each row normalized to length 1."""
    columns: dict[str, int] = {}
    values, indices, ends = [], [], [0]
    for text in texts:
        counts = grams(text)
        norm = math.sqrt(sum(count * count for count in counts.values()))
        for gram, count in counts.items():
            indices.append(columns.setdefault(gram, len(columns)))
            values.append(count / norm)
        ends.append(len(indices))
    shape = (len(texts), max(1, len(columns)))
    return sparse.csr_array((values, indices, ends), shape=shape)
