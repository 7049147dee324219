"""Quality rules for sentences: pure functions of lists of text.

Rows are numbered from 0. A rule reports rows and a message; ``check`` decides how severe it is.
"""

import math
import re
import statistics
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np

from neuronxa_callback.corpus.profiles import Profile, similar_pairs, similar_rows
from neuronxa_callback.corpus.scripts import LOOKALIKES, WORD, mixed_word, system_of, systems

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


def near_duplicates(profile: Profile) -> list[tuple[int, int, float]]:
    """Pairs of rows with almost the same sentence: earlier row, later row, cosine."""
    if len(profile.texts) > MAX_COMPARED:
        profile = Profile(profile.texts[:MAX_COMPARED])
    return similar_pairs(profile, NEAR)


def copies(pivots: Profile, texts: Profile) -> list[tuple[int, bool]]:
    """Untranslated rows: both sides are the same text (True) or almost the same (False)."""
    similar = set(similar_rows(pivots, texts, NEAR))
    alike = {int(i) for i in np.flatnonzero(pivots.signatures == texts.signatures)}
    equal = {i for i in alike if _letters(pivots.texts[i]) == _letters(texts.texts[i])}
    return [(i, i in equal) for i in sorted(similar | equal)]


def wrong_script(texts: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[int, str, bool]]:
    """Rows with many letters outside the wanted writing systems; True if far too many."""
    letters = set("".join(texts))
    usual = {letter for letter in letters if system_of(letter) in (None, *wanted)}
    if len(usual) == len(letters):
        return
    for i, text in enumerate(texts):
        if usual.issuperset(text):
            continue
        counts = systems(text)
        total = sum(counts.values())
        foreign = total - sum(counts[name] for name in wanted)
        if total and foreign > FOREIGN * total:
            other = max(sorted(counts.keys() - set(wanted)), key=counts.__getitem__)
            message = f"{foreign} of {total} letters are {other.title()}"
            yield i, message, foreign > WRONG * total


def mixed_words(texts: Sequence[str]) -> RowMessages:
    """Rows with a word that mixes letters of two similar scripts."""
    letters = set("".join(texts))
    similar = [{x for x in letters if system_of(x) == system} for system in LOOKALIKES]
    if sum(map(bool, similar)) < 2:
        return
    for i, text in enumerate(texts):
        if sum(not group.isdisjoint(text) for group in similar) < 2:
            continue
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
    if text.isprintable() and "\ufffd" not in text:
        return None
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
    if text[1:] == text[1:].lower():
        return set()
    return {
        match.group()
        for match in WORD.finditer(text)
        if len(match.group()) > 1
        and match.group()[0].isupper()
        and UNFINISHED.search(text[: match.start()])
    }


def rows_with(
    first: Sequence[set[str]],
    second: Sequence[set[str]],
    uninformative: Sequence[bool] = (False, False),
) -> tuple[list[int], int]:
    """Rows in which a side has a number or name, and in how many both sides share one.

    Args:
        first: The ``numbers`` or ``names`` of each sentence.
        second: The same of its translation.
        uninformative: Per side, whether to ignore matches that the other side does not share.
    """
    rows, common = [], 0
    for i, (one, other) in enumerate(zip(first, second, strict=True)):
        common += bool(one & other)
        if one & other or (one and not uninformative[0]) or (other and not uninformative[1]):
            rows.append(i)
    return rows, common


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))
