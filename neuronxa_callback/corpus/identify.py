"""Lines in another language than their file says, found with the language identifier lingua.

A line of place names or titles looks like any language as a whole, but seldom in each of its
halves. So a line counts as foreign if the line, its first half and its second half all look like
one and the same other language. Close languages never count as foreign to each other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from neuronxa_callback.corpus import languages
from neuronxa_callback.corpus.findings import ERROR, Finding
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.text import shorten

MISSING = "the languages of lines are not checked: pip install lingua-language-detector"
CLOSE = (
    "af nl", "az tr", "be bg kk mk mn ru sr uk", "bs hr sl sr", "ca es la pt", "cs sk",
    "da nb nn sv is", "en la", "fa ur ar", "fr la", "hi mr", "id ms", "it la", "la ro", "lg sn sw",
    "st tn ts", "xh zu",
)  # fmt: skip
"""Languages that are not told apart, by ISO 639-1. Ukrainian and Kazakh share a rare letter."""
SCRIPTS = {"Latn": "latin", "Cyrl": "cyrillic", "Arab": "arabic", "Deva": "devanagari"}
"""Scripts of several languages; all others have their own."""
MIN_LENGTH = 20
"""Characters of a line; a shorter one is not judged."""
MIN_CONFIDENCE = 0.5
"""The least confidence of the other language."""


@dataclass(frozen=True)
class LanguageCheck:
    """The lines in another language, and the languages that could not be checked."""

    findings: tuple[Finding, ...] = ()
    note: str = ""
    """What was not checked and why, as a sentence; empty if all was."""


def check_languages(corpus: ParallelCorpus) -> LanguageCheck:
    """The lines of a corpus in another language than that of their side.

    Needs the package ``lingua-language-detector``; without it, the note says so. About 0.1 GB of
    memory, and 1.3 GB once a line looks foreign.
    """
    try:
        import lingua
    except ImportError:
        return LanguageCheck(note=MISSING)
    findings: list[Finding] = []
    unchecked: dict[str, None] = {}
    pivot_is_done = False
    for language in corpus.languages:
        sides = (1,) if pivot_is_done else (0, 1)
        pivot_is_done = corpus.shared_pivot
        for side in sides:
            code = language if side else corpus.pivot
            expected = _lingua_code(code, lingua)
            if expected is None:
                unchecked[code] = None
                continue
            texts = [pair[side] for pair in corpus.pairs[language]]
            for i, other in _foreign_lines(texts, expected, lingua):
                message = (
                    f"looks like {other}, not {languages.name(code)}: {shorten(texts[i])!r};"
                    " drop the line in all languages"
                )
                where = corpus.where(language, i, pivot=side == 0)
                findings.append(Finding(ERROR, code, where, message))
    note = "the languages of lines are not checked for {}: lingua does not know them"
    return LanguageCheck(tuple(findings), note.format(", ".join(unchecked)) if unchecked else "")


def _lingua_code(code: str, lingua: Any) -> str | None:
    """The ISO 639-1 code of a language that lingua knows in this script, or None."""
    from langcodes import standardize_tag

    usual = {"no": "nb", "fil": "tl"}
    try:
        tag = standardize_tag(code.partition("_")[0], macro=True).partition("-")[0]
    except ValueError:
        return None
    tag = usual.get(tag, tag)
    script = languages.script(code)
    for known in lingua.Language.all():
        if known.iso_code_639_1.name.lower() == tag:
            written = [
                name
                for name, family in SCRIPTS.items()
                if known in getattr(lingua.Language, f"all_with_{family}_script")()
            ]
            fits = script in written if written else script not in SCRIPTS
            return tag if fits or script is None else None
    return None


def _foreign_lines(texts: Sequence[str], expected: str, lingua: Any) -> Iterator[tuple[int, str]]:
    """The foreign lines and the names of their languages.

    A small model chooses the lines that a large one judges.
    """
    long = [i for i, text in enumerate(texts) if len(text) >= MIN_LENGTH]
    parts = [_parts(texts[i]) for i in long]
    guesses = _guesses(parts, _detector(lingua, True))
    chosen = [
        k
        for k, guess in enumerate(guesses)
        if all(not _are_close(expected, code) for code, _, _ in guess)
    ]
    verdicts = _guesses([parts[k] for k in chosen], _detector(lingua, False)) if chosen else []
    for k, verdict in zip(chosen, verdicts, strict=True):
        codes = {code for code, _, _ in verdict}
        _, name, confidence = verdict[0]
        is_certain = len(codes) == 1 and confidence >= MIN_CONFIDENCE
        if is_certain and not _are_close(expected, codes.pop()):
            yield long[k], name


def _parts(text: str) -> tuple[str, str, str]:
    """A line and its halves, cut at the white space nearest to its middle, if there is any."""
    middle = len(text) // 2
    spaces = (i for i, letter in enumerate(text) if letter.isspace())
    cut = min(spaces, key=lambda i: abs(i - middle), default=middle)
    return text, text[:cut], text[cut:]


def _guesses(parts: Sequence[tuple[str, ...]], detector: Any) -> list[list[tuple[str, str, float]]]:
    """Per line and part the likeliest language: code, name, confidence."""
    flat = [part for line in parts for part in line]
    ranked = detector.compute_language_confidence_values_in_parallel(flat)
    best = [
        (one[0].language.iso_code_639_1.name.lower(), one[0].language.name.title(), one[0].value)
        for one in ranked
    ]
    return [best[k : k + 3] for k in range(0, len(best), 3)]


def _are_close(one: str, other: str) -> bool:
    return one == other or any({one, other} <= set(group.split()) for group in CLOSE)


@cache
def _detector(lingua: Any, is_small: bool) -> Any:
    builder = lingua.LanguageDetectorBuilder.from_all_languages()
    return (builder.with_low_accuracy_mode() if is_small else builder).build()
