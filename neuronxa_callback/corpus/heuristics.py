"""What may be wrong with sentences that can be measured: pure functions of lists of text.

Each returns row numbers (from 0) and words; none decides how bad it is.
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
"""Cosine of character 3-gram counts from which two sentences are nearly the same."""
MOST_COMPARED = 20_000
"""Sentences that are compared with each other: the work grows with the square."""
FOREIGN = 0.5
"""Share of letters of other scripts above which a sentence is doubtful: names may be among them."""
WRONG = 0.75
"""The same share above which a sentence is in the wrong script."""
RATIO = math.log(2.5)
"""How far a pair's length ratio is from the median before it is an outlier, at the least."""
DEVIATIONS = 6.0
"""The same in robust standard deviations."""

NUMBER = re.compile(r"\d+")
GOES_ON = re.compile(r"\w[^\w.!?…:。！？।]*$")
"""The end of a text after which no sentence begins."""
UNWANTED = {"\ufeff": "a byte order mark", "\ufffd": "a replacement character (lost text)"}

Suspects = Iterator[tuple[int, str]]


def near_duplicates(texts: Sequence[str]) -> list[tuple[int, int, float]]:
    """Pairs of rows that are nearly the same sentence: first row, later row, cosine."""
    rows = _unit_rows(texts[:MOST_COMPARED])
    found = []
    for start in range(0, rows.shape[0], 1000):
        near = sparse.coo_array(rows[start : start + 1000] @ rows.T)
        keep = (near.data >= NEAR) & (near.row + start < near.col)
        found += [
            (int(i) + start, int(j), float(value))
            for i, j, value in zip(near.row[keep], near.col[keep], near.data[keep], strict=True)
        ]
    return sorted(found, key=lambda each: (each[1], each[0]))


def copies(pivots: Sequence[str], texts: Sequence[str]) -> list[tuple[int, bool]]:
    """Rows whose two sides are the same text (True), or nearly (False): not translated."""
    both = _unit_rows([*pivots, *texts])
    cosines = np.asarray(both[: len(pivots)].multiply(both[len(pivots) :]).sum(axis=1)).ravel()
    return [
        (i, _letters(pivot) == _letters(text))
        for i, (pivot, text) in enumerate(zip(pivots, texts, strict=True))
        if cosines[i] >= NEAR or _letters(pivot) == _letters(text)
    ]


def wrong_script(texts: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """Rows with more letters of other writing systems than wanted, and whether far more."""
    for i, text in enumerate(texts):
        counts = systems(text)
        total = sum(counts.values())
        strange = total - sum(counts[name] for name in wanted)
        if total and strange > FOREIGN * total:
            other = max(sorted(counts.keys() - set(wanted)), key=counts.__getitem__)
            words = f"{strange} of {total} letters are {other.title()}"
            yield i, words, strange > WRONG * total


def mixed_words(texts: Sequence[str]) -> Suspects:
    """Rows with a word in letters of two scripts that look alike."""
    for i, text in enumerate(texts):
        word = mixed_word(text)
        if word:
            names = " and ".join(sorted(name.title() for name in systems(word)))
            yield i, f"the word {word!r} mixes {names} letters"


def odd_lengths(pivots: Sequence[str], texts: Sequence[str]) -> Suspects:
    """Rows whose ratio of lengths is far from the language's median."""
    logs = [math.log(len(b) / len(a)) for a, b in zip(pivots, texts, strict=True)]
    middle = statistics.median(logs)
    spread = 1.4826 * statistics.median(abs(each - middle) for each in logs)
    for i, each in enumerate(logs):
        if abs(each - middle) > max(RATIO, DEVIATIONS * spread):
            yield (
                i,
                (
                    f"{len(texts[i])} characters for {len(pivots[i])} of the pivot, where"
                    f" {math.exp(middle) * len(pivots[i]):.0f} are usual"
                ),
            )


def odd_characters(text: str) -> str | None:
    """A byte order mark, a control character or lost text in a sentence, in words."""
    for letter in text:
        if letter in UNWANTED:
            return f"holds {UNWANTED[letter]}"
        if not letter.isprintable() and unicodedata.category(letter) in ("Cc", "Zl", "Zp"):
            return f"holds the control character U+{ord(letter):04X}"
    return None


def numbers(text: str) -> set[str]:
    """The numbers in a sentence, in the digits of any script."""
    return set(NUMBER.findall(text))


def names(text: str) -> set[str]:
    """What may be names: capitalised words that begin no sentence, in scripts with capitals.

    Not only names are written so, and names in scripts without capitals are not found.
    """
    return {
        found.group()
        for found in WORD.finditer(text)
        if len(found.group()) > 1
        and found.group()[0].isupper()
        and GOES_ON.search(text[: found.start()])
    }


def telling(
    pairs: Sequence[tuple[str, str]],
    find: Callable[[str], set[str]],
    ordinary: Sequence[bool] = (False, False),
) -> tuple[list[int], int]:
    """Rows in which a side has something to find, and how many rows have one in common.

    Args:
        pairs: Sentences and their translations.
        find: ``numbers`` or ``names``.
        ordinary: Per side, whether everything has it there, so that it says nothing by itself.
    """
    rows, common = [], 0
    for i, pair in enumerate(pairs):
        one, other = map(find, pair)
        common += bool(one & other)
        if one & other or (one and not ordinary[0]) or (other and not ordinary[1]):
            rows.append(i)
    return rows, common


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def _unit_rows(texts: Sequence[str]) -> sparse.csr_array:
    """Character 3-gram counts as rows of length one [texts, grams]."""
    columns: dict[str, int] = {}
    numbers, indices, ends = [], [], [0]
    for text in texts:
        counts = grams(text)
        norm = math.sqrt(sum(count * count for count in counts.values()))
        for gram, count in counts.items():
            indices.append(columns.setdefault(gram, len(columns)))
            numbers.append(count / norm)
        ends.append(len(indices))
    shape = (len(texts), max(1, len(columns)))
    return sparse.csr_array((numbers, indices, ends), shape=shape)
