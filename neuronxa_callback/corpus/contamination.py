"""Contamination: which sentences of a corpus are in training files.

A sentence is searched for as its n-grams of ``WORDS`` words (``CHARACTERS`` characters in scripts
without spaces), a shorter one as a whole. Case, ASCII punctuation, white space and common
quotation marks are ignored. Files are streamed; memory use does not depend on their size.

Algorithm: text is reduced to bytes without spaces. The first ``ANCHOR`` bytes of each n-gram are
hashed. numpy hashes every window of the files in the same way and looks it up in one table; only
the few windows in the table are compared in full.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.corpus import languages
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.scripts import UNSPACED
from neuronxa_callback.corpus.training_files import CHUNK, list_files, text_chunks
from neuronxa_callback.errors import CorpusError

WORDS = 13
CHARACTERS = 20
ANCHOR = 16
"""Bytes of an n-gram that are hashed; a shorter sentence is not searched for."""

BLOCK = 1 << 15
"""Windows that are hashed at a time: few enough for the processor's cache."""
TABLE_BITS = 20
"""The table has one entry for each value of the first bits of a hash."""

LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
IGNORED = bytes(byte for byte in range(128) if not chr(byte).isalnum())
MARKS = tuple(mark.encode() for mark in "’‘“”„–—…«»\u00a0\u202f\u3000。，、")

Hashes = NDArray[np.uint64]
ByteProgress = Callable[[int, int], None]
"""Receives the bytes read so far and in total."""


@dataclass(frozen=True)
class Hit:
    """A sentence of the corpus that is in a training file, whole or in part."""

    language: str
    where: str
    """The sentence's place in the corpus."""
    sentence: str
    file: str
    line: int
    """The line of the file, from 1, in which the first matching n-gram ends."""
    share: float
    """The share of the sentence's n-grams that are in the file, in (0, 1]."""


@dataclass(frozen=True)
class Search:
    """The result of a search, and how much was searched."""

    hits: tuple[Hit, ...]
    """One hit per sentence and file, in order of files, then of the corpus."""
    files: int
    lines: int
    """Lines of text, records of JSON, rows of parquet."""
    size: int
    """Bytes, as stored on disk."""
    warnings: tuple[str, ...]
    """One message per file without text."""


def contamination(
    corpus: ParallelCorpus, paths: Iterable[str | Path], progress: ByteProgress | None = None
) -> tuple[Hit, ...]:
    """The sentences of a corpus, of pivot and languages, that are in training files.

    Args:
        corpus: The sentences that must not be trained on.
        paths: Text, jsonl and parquet files, plain or ``.gz``, or folders of them.
        progress: Called with the bytes read so far and in total (as stored on disk).

    Returns:
        One hit per sentence and file, in order of files, then of the corpus.

    Raises:
        CorpusError: As ``search_files``.
    """
    return search_files(corpus, paths, progress).hits


def search_files(
    corpus: ParallelCorpus, paths: Iterable[str | Path], progress: ByteProgress | None = None
) -> Search:
    """As ``contamination``, with counts of files, lines and bytes.

    Raises:
        CorpusError: If a file does not exist, cannot be read or is binary, or if there is no text.
    """
    files = list_files(paths)
    index = NgramIndex(corpus_sentences(corpus))
    sizes = [file.stat().st_size for file in files]
    hits: list[Hit] = []
    counts: list[int] = []
    for k, file in enumerate(files):
        on_read = partial(_report_bytes, progress, sum(sizes[:k]), sum(sizes))
        found, lines = search_file(index, file, on_read)
        on_read(sizes[k])
        hits += found
        counts.append(lines)
    if not any(counts):
        raise CorpusError(f"training files must hold text, but there is none in {_list(files)}")
    warnings = tuple(
        f"{file} holds no text, so nothing in it was searched"
        for file, lines in zip(files, counts, strict=True)
        if not lines
    )
    return Search(tuple(hits), len(files), sum(counts), sum(sizes), warnings)


def _report_bytes(progress: ByteProgress | None, before: int, total: int, done: int) -> None:
    if progress is not None:
        progress(before + done, total)


def _list(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3} more" if len(files) > 3 else ""
    return ", ".join(map(str, files[:3])) + more


@dataclass(frozen=True)
class Sentence:
    """A sentence to search for."""

    language: str
    where: str
    text: str

    def ngrams(self) -> list[bytes]:
        """Its n-grams as bytes; the whole sentence if it is shorter than n."""
        if languages.script(self.language) in UNSPACED:
            parts, glue, n = list(self.text), "", CHARACTERS
        else:
            parts, glue, n = self.text.split(), " ", WORDS
        starts = range(max(1, len(parts) - n + 1))
        ngrams = (searchable_bytes(glue.join(parts[k : k + n]).encode()) for k in starts)
        return [ngram for ngram in dict.fromkeys(ngrams) if len(ngram) >= ANCHOR]


class NgramIndex:
    """All n-grams of the sentences by the hash of their first bytes."""

    def __init__(self, sentences: Sequence[Sentence]) -> None:
        self.sentences = sentences
        self.counts = [0] * len(sentences)
        self.owners: dict[bytes, list[int]] = {}
        for number, sentence in enumerate(sentences):
            ngrams = sentence.ngrams()
            self.counts[number] = len(ngrams)
            for ngram in ngrams:
                self.owners.setdefault(ngram, []).append(number)
        self.longest = max(map(len, self.owners), default=ANCHOR)
        self.by_hash: dict[int, list[bytes]] = {}
        self.table = np.zeros(1 << TABLE_BITS, dtype=bool)
        for ngram in self.owners:
            key = _hash_windows(ngram[:ANCHOR])
            self.by_hash.setdefault(int(key[0]), []).append(ngram)
            self.table[key >> np.uint64(64 - TABLE_BITS)] = True

    def matches(self, text: bytes, block: int = BLOCK) -> Iterator[tuple[int, bytes]]:
        """The position and bytes of each n-gram in a searchable text."""
        for position, key in self.candidates(text, block):
            for ngram in self.by_hash.get(key, ()):
                if text.startswith(ngram, position):
                    yield position, ngram

    def candidates(self, text: bytes, block: int = BLOCK) -> Iterator[tuple[int, int]]:
        """The position and hash of each window whose hash begins like that of an n-gram."""
        for start in range(0, len(text) - ANCHOR + 1, block):
            keys = _hash_windows(text[start : start + block + ANCHOR - 1])
            near = np.flatnonzero(self.table[keys >> np.uint64(64 - TABLE_BITS)])
            yield from zip((near + start).tolist(), keys[near].tolist(), strict=True)


def corpus_sentences(corpus: ParallelCorpus) -> list[Sentence]:
    """All sentences of a corpus, those of the pivot first and without repetitions."""
    pivots: dict[str, str] = {}
    for language in corpus.languages:
        for i, (pivot, _) in enumerate(corpus.pairs[language]):
            pivots.setdefault(pivot, corpus.where(language, i, pivot=True))
    sentences = [Sentence(corpus.pivot, where, text) for text, where in pivots.items()]
    for language in corpus.languages:
        for i, (_, text) in enumerate(corpus.pairs[language]):
            sentences.append(Sentence(language, corpus.where(language, i), text))
    return sentences


def search_file(
    index: NgramIndex,
    file: Path,
    on_read: Callable[[int], None],
    chunk_bytes: int = CHUNK,
    block: int = BLOCK,
) -> tuple[list[Hit], int]:
    """The hits of one file, in order of the corpus, and its number of lines; 0 without text.

    The result does not depend on the sizes.
    """
    first_line: dict[int, int] = {}
    matched: dict[int, set[bytes]] = {}
    tail, line, ends_inside, has_text = b"", 1, False, False
    for chunk in text_chunks(file, on_read, chunk_bytes):
        text = tail + searchable_bytes(chunk)
        for position, ngram in index.matches(text, block):
            for number in index.owners[ngram]:
                if number not in first_line:
                    end = position + len(ngram) - len(tail)
                    first_line[number] = line + _line_of(chunk, end)
                matched.setdefault(number, set()).add(ngram)
        tail = text[-(index.longest - 1) :]
        line += chunk.count(b"\n")
        ends_inside = not chunk.endswith(b"\n") if chunk else ends_inside
        has_text = has_text or bool(text)
    hits = [
        Hit(
            language=index.sentences[number].language,
            where=index.sentences[number].where,
            sentence=index.sentences[number].text,
            file=str(file),
            line=first_line[number],
            share=len(matched[number]) / index.counts[number],
        )
        for number in sorted(first_line)
    ]
    return hits, (line - 1 + ends_inside) if has_text else 0


def searchable_bytes(text: bytes) -> bytes:
    """Text as it is compared: lower case, without spaces, ASCII punctuation and usual marks."""
    if not text.isascii():
        for mark in MARKS:
            text = text.replace(mark, b"")
    return text.translate(LOWER, IGNORED)


def _hash_windows(text: bytes) -> Hashes:
    """One 64-bit hash for each window of ``ANCHOR`` bytes."""
    count = len(text) - ANCHOR + 1
    windows: Hashes = np.ndarray((count + 8,), "<u8", text, 0, (1,))
    low, high = windows[:count], windows[8 : 8 + count]
    # The odd constants of splitmix64: the upper bits depend on all bytes.
    keys: Hashes = low * np.uint64(0x9E3779B97F4A7C15)
    keys += high
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    return keys


def _line_of(chunk: bytes, end: int) -> int:
    """The line of a chunk, from 0, in which its first ``end`` searchable bytes end."""
    for number, line in enumerate(chunk.split(b"\n")):
        end -= len(searchable_bytes(line))
        if end <= 0:
            return number
    return chunk.count(b"\n")
