"""Quality check of a corpus: findings by language and line, errors apart from advice.

An error distorts a score or costs a pair; advice names a reason to trust a score less. A clean
corpus has no finding.
"""

import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import heuristics, languages, scripts
from neuronxa_callback.corpus.findings import ADVICE, ERROR, Finding, errors_first
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.profiles import Profile
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.corpus.readers.lines import raw_lines
from neuronxa_callback.corpus.shifts import find_shift
from neuronxa_callback.corpus.text import comparison_key, find_fault, normalize_sentence, shorten
from neuronxa_callback.errors import CorpusError

MIN_PAIRS, USUAL_PAIRS = 30, 100
"""Fewer pairs than the first are an error, fewer than the second cost precision."""
MAX_LEAKS = 0.1
"""A greater share of pairs with digits, or with likely names, is reported."""
MAX_FERTILITY = 4.0
"""A greater ratio of a language's tokens to the pivot's is reported."""
MAX_UNKNOWN = 0.05
"""A greater share of unknown tokens is reported."""


def check(
    corpus: ParallelCorpus, tokenizer: Any = None, max_length: int = 512
) -> tuple[Finding, ...]:
    """All findings in the sentences of a corpus, errors first.

    >>> check(ParallelCorpus.builtin(languages=["de", "hi"]))
    ()
    >>> print(*check(ParallelCorpus.builtin(languages=["de"]).select(n_pairs=20)))
    error: deu_Latn: 20 pairs: a score may be off by ±0.22 (100 pairs: ±0.10); use at least 30

    Args:
        corpus: The corpus to check.
        tokenizer: A Hugging Face tokenizer, to report sentences of more than ``max_length``
            tokens, unknown tokens and languages with a high fertility; None to skip this.
        max_length: Most tokens of a sentence.

    Returns:
        Findings in order of languages and lines; none for a clean corpus.
    """
    corpus = corpus.in_file_order()
    findings: list[Finding] = []
    pivot: _Side | None = None
    for language in corpus.languages:
        findings += _check_size(corpus, language)
        if pivot is None or not corpus.shared_pivot:
            pivot = _Side(corpus, language, 0)
            findings += _check_side(pivot)
        side = _Side(corpus, language, 1)
        findings += _check_side(side)
        findings += _check_pairs(pivot, side)
        if tokenizer is not None:
            findings += _check_tokens(corpus, language, tokenizer, max_length)
    return errors_first(findings)


def check_path(
    path: str | Path,
    reader: str | None = None,
    tokenizer: Any = None,
    max_length: int = 512,
    **options: Any,
) -> tuple[Finding, ...]:
    """All findings in files, also in the lines that a reader drops.

    Args:
        path: A folder or file, as for ``ParallelCorpus.read``.
        reader: As for ``ParallelCorpus.read``; None to guess.
        tokenizer: As for ``check``.
        max_length: As for ``check``.
        **options: Of the reader: ``pivot``, ``languages``, ``n_pairs``, ``extension``, ...

    Returns:
        Findings, errors first. Files that cannot be read are a finding, too.

    Raises:
        CorpusError: If there is no such reader.
    """
    return read_and_check(path, reader, tokenizer, max_length, **options)[1]


def read_and_check(
    path: str | Path,
    reader: str | None = None,
    tokenizer: Any = None,
    max_length: int = 512,
    **options: Any,
) -> tuple[ParallelCorpus | None, tuple[Finding, ...]]:
    """The corpus of files, None if they cannot be read, and the findings of ``check_path``.

    Raises:
        CorpusError: If there is no such reader.
    """
    reader = reader or detect.guess(path)
    files = detect.line_files(path, reader, **options)
    findings: list[Finding] = []
    for language, file in files:
        findings += _check_file(language, file)
    try:
        corpus = ParallelCorpus.read(path, reader, **options)
    except CorpusError as cause:
        return None, errors_first([*findings, Finding(ERROR, "", str(path), str(cause))])
    if not files:
        findings += map(_dropped_finding, corpus.dropped)
    findings += check(corpus, tokenizer, max_length)
    if options.get("n_pairs") is not None:
        # A shift shows in neighbouring lines only, and the first pairs are spread over the file.
        findings += _shifts(ParallelCorpus.read(path, reader, **options | {"n_pairs": None}))
    return corpus, errors_first(findings)


def fertility(corpus: ParallelCorpus, language: str, tokenizer: Any) -> float:
    """Tokens of a language per token of the pivot, over the same sentences; NaN without tokens."""
    sides = list(zip(*corpus.pairs[language], strict=True))
    counts = [sum(map(len, tokenizer(list(side))["input_ids"])) for side in sides]
    return counts[1] / counts[0] if counts[0] else math.nan


def _check_size(corpus: ParallelCorpus, language: str) -> Iterator[Finding]:
    n = len(corpus.pairs[language])
    if n >= USUAL_PAIRS:
        return
    width, usual = (1.96 * math.sqrt(0.25 / count) for count in (n, USUAL_PAIRS))
    too_few = n < MIN_PAIRS
    yield Finding(
        ERROR if too_few else ADVICE,
        language,
        "",
        f"{n} pairs: a score may be off by ±{width:.2f} ({USUAL_PAIRS} pairs: ±{usual:.2f});"
        f" use at least {MIN_PAIRS if too_few else USUAL_PAIRS}",
    )


def _check_file(language: str, file: Path) -> Iterator[Finding]:
    """Findings in the raw lines of a file, before any is dropped: bytes, blanks, repetitions."""
    seen: dict[str, int] = {}
    blank: list[Finding] = []
    for number, raw in enumerate(raw_lines(file), start=1):
        where = f"{file.name}:{number}"
        if number == 1 and raw.startswith(BOM_UTF8):
            raw = raw.removeprefix(BOM_UTF8)
            yield Finding(ADVICE, language, where, "begins with a byte order mark")
        try:
            line = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as cause:
            message = f"is not UTF-8: byte 0x{raw[cause.start]:02x} at position {cause.start}"
            yield Finding(ERROR, language, where, message)
            continue
        odd = heuristics.odd_characters(line)
        if odd:
            yield Finding(ERROR, language, where, odd)
        fault = find_fault(line)
        if fault:
            blank.append(Finding(ERROR, language, where, fault))
            continue
        # Blank lines count only if another line follows: readers ignore those at the end.
        yield from blank
        blank.clear()
        first = seen.setdefault(comparison_key(normalize_sentence(line)), number)
        if first != number:
            yield Finding(ERROR, language, where, f"repeats line {first}: {shorten(line)!r}")


def _dropped_finding(message: str) -> Finding:
    """A reader's message on a dropped pair, ``file:line reason``, as a finding."""
    place, reason = r".*?(?::| row | record )\d+(?: \(.*?\))?", r"(?:is|contains|repeats) .*"
    match = re.fullmatch(f"({place}) ({reason})", message, re.DOTALL)
    return Finding(ERROR, "", *match.groups()) if match else Finding(ADVICE, "", "", message)


class _Side:
    """The pivot sentences (side 0) or the translations (side 1) of a language, counted once."""

    def __init__(self, corpus: ParallelCorpus, language: str, side: int) -> None:
        self.corpus, self.language, self.side = corpus, language, side
        self.name = corpus.pivot if side == 0 else language
        self.texts = [pair[side] for pair in corpus.pairs[language]]
        self.profile = Profile(self.texts)
        self.numbers = list(map(heuristics.numbers, self.texts))
        self.names = list(map(heuristics.names, self.texts))

    def where(self, i: int) -> str:
        """The place of sentence i."""
        return self.corpus.where(self.language, i, pivot=self.side == 0)


def _check_side(side: _Side) -> Iterator[Finding]:
    """Findings in the sentences of one side alone."""
    name, texts, where = side.name, side.texts, side.where
    for i, text in enumerate(texts):
        odd = heuristics.odd_characters(text)
        if odd:
            yield Finding(ERROR, name, where(i), odd)
    wanted = scripts.expected(languages.script(name), texts)
    expected = languages.script_name(name) or "".join(wanted).title()
    for i, message, is_wrong in heuristics.wrong_script(texts, wanted):
        level = ERROR if is_wrong else ADVICE
        yield Finding(level, name, where(i), f"{message}, expected {expected}")
    for i, message in heuristics.mixed_words(texts):
        yield Finding(ADVICE, name, where(i), message)
    for i, j, cosine in heuristics.near_duplicates(side.profile):
        first = f"almost repeats {where(i)} (character cosine {cosine:.2f})"
        yield Finding(ADVICE, name, where(j), f"{first}: {shorten(texts[j])!r}")


def _check_pairs(pivot: _Side, side: _Side) -> Iterator[Finding]:
    """Findings in both sides together."""
    language, where = side.language, side.where
    for i, is_copy in heuristics.copies(pivot.profile, side.profile):
        level = ERROR if is_copy else ADVICE
        problem = "is not translated" if is_copy else "looks almost untranslated"
        yield Finding(level, language, where(i), f"{problem}: {shorten(side.texts[i])!r}")
    for i, message in heuristics.odd_lengths(pivot.texts, side.texts):
        yield Finding(ADVICE, language, where(i), message)
    yield from _check_leaks(pivot, side)
    if _has_neighbours(side.corpus, language):
        yield from _check_shift(pivot, side)


def _check_leaks(pivot: _Side, side: _Side) -> Iterator[Finding]:
    """Finds many pairs with digits or likely names, which align without knowing the language."""
    nouns = [languages.capital_nouns(each.name) for each in (pivot, side)]
    digits, same_numbers = heuristics.rows_with(pivot.numbers, side.numbers)
    names, same_names = heuristics.rows_with(pivot.names, side.names, nouns)
    for rows, content in (
        (digits, f"digits ({same_numbers} share a number)"),
        (names, f"capitalized words that may be names ({same_names} share one)"),
    ):
        if len(rows) > MAX_LEAKS * len(side.texts):
            message = (
                f"{len(rows)} of {len(side.texts)} pairs have {content}, which may align them"
                f" without their meaning; first: {side.where(rows[0])}"
            )
            yield Finding(ADVICE, side.language, "", message)


def _shifts(corpus: ParallelCorpus) -> Iterator[Finding]:
    """Shifted lines of a whole corpus."""
    corpus = corpus.in_file_order()
    for language in corpus.languages:
        yield from _check_shift(_Side(corpus, language, 0), _Side(corpus, language, 1))


def _has_neighbours(corpus: ParallelCorpus, language: str) -> bool:
    """Whether at least half of the pairs, in file order, have the next line beside them."""
    lines = corpus.lines(language)
    nexts = sum(later - line <= 2 for line, later in pairwise(lines))
    return not lines or 2 * nexts >= len(lines) - 1


def _check_shift(pivot: _Side, side: _Side) -> Iterator[Finding]:
    """Finds lines that fit those of 1 to 5 pairs before or behind."""
    marks = [
        [one | other for one, other in zip(each.numbers, each.names, strict=True)]
        for each in (pivot, side)
    ]
    shift = find_shift(pivot.texts, side.texts, *marks)
    if shift is None:
        return
    last = "" if shift.end + 5 >= len(side.texts) else f" to {side.where(shift.end - 1)}"
    later = "later" if shift.offset > 0 else "earlier"
    message = (
        f"lines look shifted from here on{last}: the translation is {abs(shift.offset)} lines"
        f" {later} (correlation of lengths {shift.correlation:.2f}, unshifted {shift.before:.2f})"
    )
    yield Finding(ERROR, side.language, side.where(shift.start), message)


def _check_tokens(
    corpus: ParallelCorpus, language: str, tokenizer: Any, max_length: int
) -> Iterator[Finding]:
    unknown_id = getattr(tokenizer, "unk_token_id", None)
    for side, name in ((0, corpus.pivot), (1, language)):
        texts = [pair[side] for pair in corpus.pairs[language]]
        sentences = tokenizer(texts)["input_ids"]
        for i, ids in enumerate(sentences):
            if len(ids) > max_length:
                message = f"has {len(ids)} tokens, allowed {max_length}; the pair will be dropped"
                yield Finding(ERROR, name, corpus.where(language, i, pivot=side == 0), message)
        unknown = sum(ids.count(unknown_id) for ids in sentences) / max(1, sum(map(len, sentences)))
        if unknown_id is not None and unknown > MAX_UNKNOWN:
            yield Finding(ADVICE, name, "", f"{unknown:.0%} of the tokens are unknown")
    ratio = fertility(corpus, language, tokenizer)
    if ratio > MAX_FERTILITY:
        message = f"has {ratio:.1f} times the tokens of {corpus.pivot}"
        yield Finding(ADVICE, language, "", message)
