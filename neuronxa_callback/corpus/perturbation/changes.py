"""Small changes of a sentence that keep its meaning, after arXiv:2403.20056.

Each is a function of the sentence alone, so it is the same on every machine and in every run.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from neuronxa_callback.corpus.languages import script
from neuronxa_callback.corpus.scripts import UNSPACED
from neuronxa_callback.corpus.tags import parse_tag

DOTTED_I = ("tur", "aze", "azj", "azb", "crh")
"""Languages whose capital of i has a dot."""
WORDS_PER_TYPO = 10
"""One word in so many gets a typing error, and at least one word of a sentence."""


def upper_case(text: str, language: str = "") -> str:
    """The sentence in capitals, as Unicode maps them; Turkic i becomes İ.

    >>> upper_case("Das Maß ist voll."), upper_case("Bir iki", "tur_Latn")
    ('DAS MASS IST VOLL.', 'BİR İKİ')
    """
    tag = parse_tag(language)
    if tag is not None and tag.language in DOTTED_I:
        text = text.replace("i", "İ")
    return text.upper()


def without_punctuation(text: str, language: str = "") -> str:
    """The sentence without characters of Unicode category P; what is left has single spaces.

    A sentence of punctuation alone stays as it is.

    >>> without_punctuation("Well - it's true, isn't it?")
    'Well its true isnt it'
    """
    kept = "".join(letter for letter in text if unicodedata.category(letter)[0] != "P")
    return " ".join(kept.split()) or text


def with_typos(text: str, language: str = "") -> str:
    """The sentence with two neighbouring letters swapped in a tenth of its words, at least in one.

    Letters keep the marks that follow them. Words and letters are drawn by a hash of the sentence,
    among the words that have two different letters side by side.

    >>> with_typos("The mill has stood empty since the stream dried up.")
    'The mill has stood empty since the strema dried up.'
    """
    words = text.split(" ")
    swaps = {k: found for k, word in enumerate(words) if (found := _swaps(word))}
    count = max(1, round(len(words) / WORDS_PER_TYPO))
    drawn = sorted(swaps, key=lambda k: _number(f"{k} {text}"))[:count]
    for k in drawn:
        start, middle, end = swaps[k][_number(f"swap {k} {text}") % len(swaps[k])]
        word = words[k]
        words[k] = word[:start] + word[middle:end] + word[start:middle] + word[end:]
    return " ".join(words)


CHANGES: Mapping[str, Callable[[str, str], str]] = {
    "case": upper_case,
    "punctuation": without_punctuation,
    "typos": with_typos,
}
"""Name of a perturbation -> its function of a sentence and its language."""


def perturb(kind: str, sentences: Sequence[str], language: str) -> tuple[str, ...] | str:
    """The changed sentences of a language; or in words why the change does not apply to it.

    >>> perturb("case", ["Guten Morgen.", "Danke."], "deu_Latn")
    ('GUTEN MORGEN.', 'DANKE.')
    >>> perturb("case", ["早上好。", "谢谢。"], "zho_Hans")
    'it has no case'

    Args:
        kind: A name in ``CHANGES``.
        sentences: The sentences of the language.
        language: Its code.
    """
    if kind == "case" and not _has_case("".join(sentences)):
        return "it has no case"
    if kind == "typos" and script(language) in UNSPACED:
        return "it puts no space between words"
    changed = tuple(CHANGES[kind](text, language) for text in sentences)
    return "no sentence changes" if changed == tuple(sentences) else changed


def _has_case(text: str) -> bool:
    """Whether at least half of the letters of a text have a capital; names may be in Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    return 2 * sum(letter.upper() != letter.lower() for letter in letters) >= max(1, len(letters))


def _swaps(word: str) -> list[tuple[int, int, int]]:
    """(start, middle, end) of two neighbouring, different letters with their marks."""
    starts = [k for k, letter in enumerate(word) if unicodedata.category(letter)[0] != "M"]
    letters = list(pairwise([*starts, len(word)]))
    return [
        (start, middle, end)
        for (start, middle), (_, end) in pairwise(letters)
        if unicodedata.category(word[start])[0] == unicodedata.category(word[middle])[0] == "L"
        and word[start:middle] != word[middle:end]
    ]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
