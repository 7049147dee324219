"""What is wrong or doubtful in a corpus, each by language and line: errors apart from advice.

An error distorts a score or costs a pair; advice says where a score deserves less trust. A clean
corpus gives no finding.
"""

import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus import heuristics, scripts
from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.corpus.readers.lines import raw_lines
from neuronxa_callback.corpus.text import clean, fault_of, same, shortened
from neuronxa_callback.errors import CorpusError

ERROR, ADVICE = "error", "advice"
FEWEST, USUAL = 30, 100
"""Fewer pairs than the first are an error, fewer than the second cost precision."""
LEAKS = 0.1
"""Share of pairs with digits, or with likely names, above which that is said."""
FERTILITY = 4.0
"""How many times the pivot's tokens a language may need before that is said."""
UNKNOWN = 0.05
"""Share of unknown tokens from which that is said."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or doubtful."""

    level: str
    """``"error"`` or ``"advice"``."""
    language: str
    where: str
    """``file:line`` where it is known, else ``deu_Latn pair 17``; empty for a whole language."""
    what: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where or self.language}: {self.what}"


def check(
    corpus: ParallelCorpus, tokenizer: Any = None, max_length: int = 512
) -> tuple[Finding, ...]:
    """Everything that is wrong or doubtful in the sentences of a corpus, errors first.

    Args:
        corpus: What is checked.
        tokenizer: A Hugging Face tokenizer, to find sentences that are too long for
            ``max_length`` tokens and languages that it cuts into very many; None to leave it out.
        max_length: Most tokens of a sentence.

    Returns:
        Findings in order of languages and lines; none for a clean corpus.
    """
    found: list[Finding] = []
    for number, language in enumerate(corpus.languages):
        found += _of_size(corpus, language)
        if number == 0 or not corpus.shared_pivot:
            found += _of_side(corpus, language, 0)
        found += _of_side(corpus, language, 1)
        found += _of_pairs(corpus, language)
        if tokenizer is not None:
            found += _of_tokens(corpus, language, tokenizer, max_length)
    return _sorted(found)


def check_path(
    path: str | Path,
    reader: str | None = None,
    tokenizer: Any = None,
    max_length: int = 512,
    **options: Any,
) -> tuple[Finding, ...]:
    """Everything that is wrong or doubtful in files, also in lines that a reader drops.

    Args:
        path: A folder or file, as the readers take it.
        reader: ``folder``, ``tatoeba``, ``bible``, ``tsv`` or ``jsonl``; None to tell by the files.
        tokenizer: As in ``check``.
        max_length: As in ``check``.
        **options: Of the reader: ``pivot``, ``languages``, ``n_pairs``, ``extension``, ...

    Returns:
        Findings, errors first; also where the corpus cannot be read at all.
    """
    reader = reader or detect.guess(path)
    found: list[Finding] = []
    for language, file in detect.text_files(path, reader, **options):
        found += _of_file(language, file)
    try:
        corpus = detect.read(path, reader, **options)
    except CorpusError as cause:
        return _sorted([*found, Finding(ERROR, "", str(path), str(cause))])
    if reader not in detect.BY_LINE:
        found += map(_of_dropped, corpus.dropped)
    return _sorted([*found, *check(corpus, tokenizer, max_length)])


def fertility(corpus: ParallelCorpus, language: str, tokenizer: Any) -> float:
    """How many times as many tokens a language needs as the pivot, for the same meaning."""
    sides = list(zip(*corpus.pairs[language], strict=True))
    counts = [sum(map(len, tokenizer(list(side))["input_ids"])) for side in sides]
    return counts[1] / counts[0] if counts[0] else math.nan


def _sorted(found: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(dict.fromkeys(found), key=lambda each: each.level != ERROR))


def _of_size(corpus: ParallelCorpus, language: str) -> Iterator[Finding]:
    n = len(corpus.pairs[language])
    if n >= USUAL:
        return
    width, usual = (1.96 * math.sqrt(0.25 / count) for count in (n, USUAL))
    yield Finding(
        ERROR if n < FEWEST else ADVICE,
        language,
        "",
        f"{n} pairs leave a score uncertain by up to ±{width:.2f} ({USUAL} pairs: ±{usual:.2f});"
        f" use at least {FEWEST if n < FEWEST else USUAL}",
    )


def _of_file(language: str, file: Path) -> Iterator[Finding]:
    """What the lines of a file show before anything is dropped: bytes, blanks, repetitions."""
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
            words = f"is not UTF-8: byte 0x{raw[cause.start]:02x} at position {cause.start}"
            yield Finding(ERROR, language, where, words)
            continue
        odd = heuristics.odd_characters(line)
        if odd:
            yield Finding(ERROR, language, where, odd)
        fault = fault_of(line)
        if fault:
            blank.append(Finding(ERROR, language, where, fault))
            continue
        # Blank lines count where another line follows: at the end of a file they mean nothing.
        yield from blank
        blank.clear()
        first = seen.setdefault(same(clean(line)), number)
        if first != number:
            yield Finding(ERROR, language, where, f"repeats line {first}: {shortened(line)!r}")


def _of_dropped(words: str) -> Finding:
    """A reader's sentence on a dropped pair, ``file:line reason``, as a finding."""
    match = re.match(r"(.*?(?::| row )\d+(?: \(.*?\))?) (.*)", words, re.DOTALL)
    return Finding(ERROR, "", *match.groups()) if match else Finding(ADVICE, "", "", words)


def _of_side(corpus: ParallelCorpus, language: str, side: int) -> Iterator[Finding]:
    """What one column shows by itself."""
    name = corpus.pivot if side == 0 else language
    texts = [pair[side] for pair in corpus.pairs[language]]

    def at(i: int) -> str:
        return corpus.where(language, i, pivot=side == 0)

    for i, text in enumerate(texts):
        odd = heuristics.odd_characters(text)
        if odd:
            yield Finding(ERROR, name, at(i), odd)
    wanted = scripts.expected(codes_of.script(name), texts)
    for i, words, wrong in heuristics.wrong_script(texts, wanted):
        words = f"{words}, expected {codes_of.script_name(name) or wanted[0].title()}"
        yield Finding(ERROR if wrong else ADVICE, name, at(i), words)
    for i, words in heuristics.mixed_words(texts):
        yield Finding(ADVICE, name, at(i), words)
    for i, j, cosine in heuristics.near_duplicates(texts):
        words = f"is nearly {at(i)} (character cosine {cosine:.2f}): {shortened(texts[j])!r}"
        yield Finding(ADVICE, name, at(j), words)


def _of_pairs(corpus: ParallelCorpus, language: str) -> Iterator[Finding]:
    """What the two columns show together."""
    pivots, texts = map(list, zip(*corpus.pairs[language], strict=True))
    for i, whole in heuristics.copies(pivots, texts):
        words = "is not translated" if whole else "is hardly translated"
        level = ERROR if whole else ADVICE
        words = f"{words}: {shortened(texts[i])!r}"
        yield Finding(level, language, corpus.where(language, i), words)
    for i, words in heuristics.odd_lengths(pivots, texts):
        yield Finding(ADVICE, language, corpus.where(language, i), words)
    yield from _of_leaks(corpus, language)


def _of_leaks(corpus: ParallelCorpus, language: str) -> Iterator[Finding]:
    """How many pairs have what can be read without the language: digits, and likely names."""
    pairs = corpus.pairs[language]
    nouns = [codes_of.capital_nouns(name) for name in (corpus.pivot, language)]
    digits, common = heuristics.telling(pairs, heuristics.numbers)
    names, same_names = heuristics.telling(pairs, heuristics.names, nouns)
    for rows, what in (
        (digits, f"digits ({common} a number in common)"),
        (names, f"capitalised words inside, often names ({same_names} one in common)"),
    ):
        if len(rows) > LEAKS * len(pairs):
            words = (
                f"{len(rows)} of {len(pairs)} pairs have {what}, which may align them without"
                f" their meaning; the first: {corpus.where(language, rows[0])}"
            )
            yield Finding(ADVICE, language, "", words)


def _of_tokens(
    corpus: ParallelCorpus, language: str, tokenizer: Any, max_length: int
) -> Iterator[Finding]:
    unknown = getattr(tokenizer, "unk_token_id", None)
    for side, name in ((0, corpus.pivot), (1, language)):
        texts = [pair[side] for pair in corpus.pairs[language]]
        ids = tokenizer(texts)["input_ids"]
        for i, each in enumerate(ids):
            if len(each) > max_length:
                words = f"has {len(each)} tokens, allowed {max_length}; the pair will be dropped"
                yield Finding(ERROR, name, corpus.where(language, i, pivot=side == 0), words)
        strange = sum(each.count(unknown) for each in ids) / max(1, sum(map(len, ids)))
        if unknown is not None and strange > UNKNOWN:
            yield Finding(ADVICE, name, "", f"{strange:.0%} of the tokens are unknown")
    ratio = fertility(corpus, language, tokenizer)
    if ratio > FERTILITY:
        words = f"needs {ratio:.1f} times the tokens of {corpus.pivot}"
        yield Finding(ADVICE, language, "", words)
