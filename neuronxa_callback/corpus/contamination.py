"""Whether a probe's sentences stand in training files: a model that has seen them is not tested.

A sentence is searched for as its n-grams of ``WORDS`` words (``CHARACTERS`` characters where a
script puts no space between words), a shorter one as a whole. Case and punctuation of ASCII, white
space and usual quotation marks do not count. Files are streamed; memory does not grow with them.

How: text becomes bytes without spaces. The first ``ANCHOR`` bytes of each n-gram are hashed; numpy
hashes every window of the files the same way and looks it up in one table, and the few windows
that are in it are compared in full.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.scripts import UNSPACED
from neuronxa_callback.errors import CorpusError

WORDS = 13
CHARACTERS = 20
ANCHOR = 16
"""Bytes of an n-gram that are hashed; a sentence with fewer says nothing and is not searched."""

CHUNK = 1 << 22
LONGEST = 1 << 26
"""Bytes of a line from which a record is read as plain text."""
BLOCK = 1 << 15
"""Windows that are hashed at a time: few enough for the processor's cache."""
TABLE_BITS = 20

LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
DELETED = bytes(each for each in range(128) if not chr(each).isalnum())
MARKS = tuple(mark.encode() for mark in "’‘“”„–—…«»\u00a0\u202f\u3000。，、")
BINARY = (".parquet", ".arrow", ".zst", ".xz", ".bz2", ".zip", ".bin", ".safetensors", ".npy")

Words = NDArray[np.uint64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Hit:
    """A sentence of the corpus that stands in a training file, whole or in part."""

    language: str
    where: str
    """Where it stands in the corpus."""
    sentence: str
    file: str
    line: int
    """Line of the file in which the first n-gram that was found ends, from 1."""
    share: float
    """Share of the sentence's n-grams that were found, in (0, 1]."""


def contamination(
    corpus: ParallelCorpus, paths: Iterable[str | Path], progress: Progress | None = None
) -> tuple[Hit, ...]:
    """The sentences of a corpus, of pivot and languages, that stand in training files.

    Args:
        corpus: What must not be trained on.
        paths: Text and jsonl files, plain or ``.gz``, or folders of them.
        progress: Called with the bytes read so far and in all (as stored on disk).

    Returns:
        One hit per sentence and file, in order of files, then of the corpus.

    Raises:
        CorpusError: If a file does not exist, cannot be read or is of a binary kind.
    """
    files = _files(paths)
    index = _Index(_sentences(corpus))
    total = sum(file.stat().st_size for file in files)
    found: list[Hit] = []
    before = 0

    def tell(done: int) -> None:
        if progress is not None:
            progress(before + done, total)

    for file in files:
        found += _search(index, file, tell)
        before += file.stat().st_size
        tell(0)
    return tuple(found)


def plain(text: bytes) -> bytes:
    """Text as it is compared: lower case, without spaces and punctuation of ASCII."""
    if not text.isascii():
        for mark in MARKS:
            text = text.replace(mark, b"")
    return text.translate(LOWER, DELETED)


@dataclass(frozen=True)
class _Sentence:
    language: str
    where: str
    text: str

    def grams(self) -> list[bytes]:
        """Its n-grams as bytes; the whole sentence where it has fewer words than n."""
        if codes_of.script(self.language) in UNSPACED:
            parts, glue, n = list(self.text), "", CHARACTERS
        else:
            parts, glue, n = self.text.split(), " ", WORDS
        starts = range(max(1, len(parts) - n + 1))
        found = (plain(glue.join(parts[k : k + n]).encode()) for k in starts)
        return [gram for gram in dict.fromkeys(found) if len(gram) >= ANCHOR]


class _Index:
    """All n-grams of a corpus by the hash of their first bytes."""

    def __init__(self, sentences: Sequence[_Sentence]) -> None:
        self.sentences = sentences
        self.counts = [0] * len(sentences)
        self.owners: dict[bytes, list[int]] = {}
        for number, sentence in enumerate(sentences):
            grams = sentence.grams()
            self.counts[number] = len(grams)
            for gram in grams:
                self.owners.setdefault(gram, []).append(number)
        self.longest = max(map(len, self.owners), default=ANCHOR)
        self.by_hash: dict[int, list[bytes]] = {}
        self.table = np.zeros(1 << TABLE_BITS, dtype=bool)
        for gram in self.owners:
            key = _hashes(gram[:ANCHOR])
            self.by_hash.setdefault(int(key[0]), []).append(gram)
            self.table[key >> np.uint64(64 - TABLE_BITS)] = True

    def matches(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        """Where n-grams begin in plain text, and which."""
        for start in range(0, len(text) - ANCHOR + 1, BLOCK):
            keys = _hashes(text[start : start + BLOCK + ANCHOR - 1])
            near = np.flatnonzero(self.table[keys >> np.uint64(64 - TABLE_BITS)])
            for at, key in zip(near.tolist(), keys[near].tolist(), strict=True):
                for gram in self.by_hash.get(key, ()):
                    if text.startswith(gram, start + at):
                        yield start + at, gram


def _hashes(text: bytes) -> Words:
    """One 64-bit hash of each window of ``ANCHOR`` bytes."""
    count = len(text) - ANCHOR + 1
    windows: Words = np.ndarray((count + 8,), "<u8", text, 0, (1,))
    low, high = windows[:count], windows[8 : 8 + count]
    # Odd constants of splitmix64: the upper bits depend on all bytes.
    keys: Words = low * np.uint64(0x9E3779B97F4A7C15)
    keys += high
    keys *= np.uint64(0xBF58476D1CE4E5B9)
    return keys


def _search(index: _Index, file: Path, tell: Callable[[int], None]) -> list[Hit]:
    """The hits of one file, in order of the corpus."""
    first: dict[int, int] = {}
    grams: dict[int, set[bytes]] = {}
    tail, line = b"", 1
    for raw in _chunks(file, tell):
        new = plain(raw)
        text = tail + new
        for at, gram in index.matches(text):
            for number in index.owners[gram]:
                if number not in first:
                    first[number] = line + _line_of(raw, at + len(gram) - len(tail))
                grams.setdefault(number, set()).add(gram)
        tail = text[-(index.longest - 1) :]
        line += raw.count(b"\n")
    return [
        Hit(
            language=index.sentences[number].language,
            where=index.sentences[number].where,
            sentence=index.sentences[number].text,
            file=str(file),
            line=first[number],
            share=len(grams[number]) / index.counts[number],
        )
        for number in sorted(first)
    ]


def _line_of(raw: bytes, end: int) -> int:
    """In which line of raw text the first ``end`` plain bytes end, from 0."""
    for number, line in enumerate(raw.split(b"\n")):
        end -= len(plain(line))
        if end <= 0:
            return number
    return raw.count(b"\n")


def _chunks(file: Path, tell: Callable[[int], None]) -> Iterator[bytes]:
    """A file's text piece by piece, cut between characters, one line per line of the file."""
    packed = file.suffix == ".gz"
    records = Path(file.name.removesuffix(".gz")).suffix in (".jsonl", ".json", ".ndjson")
    rest = b""
    try:
        with (
            file.open("rb") as stored,
            gzip.open(stored) if packed else nullcontext(stored) as source,
        ):
            while piece := source.read(CHUNK):
                tell(stored.tell())
                whole, rest = _cut(rest + piece, records)
                yield _strings(whole) if records else whole
            yield _strings(rest) if records else rest
    except (OSError, EOFError, zlib.error) as cause:
        raise CorpusError(f"{file} cannot be read: {cause}") from None


def _cut(text: bytes, at_lines: bool) -> tuple[bytes, bytes]:
    """What is complete, and the rest: lines, or characters."""
    end = text.rfind(b"\n") + 1
    if end == 0 and not (at_lines and len(text) < LONGEST):
        end = len(text)
        while end > len(text) - 4 and end > 0 and text[end - 1] >= 0x80:
            end -= 1
    return text[:end], text[end:]


def _strings(text: bytes) -> bytes:
    """The strings of JSON records, those of one line on one line; other lines as they are."""
    lines = text.split(b"\n")
    try:
        # All at once is several times as fast as one by one.
        records = json.loads(b"[" + b",".join(line or b'""' for line in lines) + b"]")
    except (ValueError, RecursionError):
        records = [_record(line) for line in lines]
    if len(records) != len(lines):
        records = [_record(line) for line in lines]
    found = "\n".join(" ".join(_texts(record)).replace("\n", " ") for record in records)
    return found.encode("utf-8", "replace")


def _record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.decode("utf-8", "replace")


def _texts(value: Any) -> list[str]:
    """All strings in a record, but not the names of its fields."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return []
    found: list[str] = []
    for each in inside:
        if type(each) is str:
            found.append(each)
        elif isinstance(each, dict | list):
            found += _texts(each)
    return found


def _sentences(corpus: ParallelCorpus) -> list[_Sentence]:
    """All sentences, those of the pivot first and each once."""
    pivots: dict[str, str] = {}
    for language in corpus.languages:
        for i, (pivot, _) in enumerate(corpus.pairs[language]):
            pivots.setdefault(pivot, corpus.where(language, i, pivot=True))
    found = [_Sentence(corpus.pivot, where, text) for text, where in pivots.items()]
    for language in corpus.languages:
        for i, (_, text) in enumerate(corpus.pairs[language]):
            found.append(_Sentence(language, corpus.where(language, i), text))
    return found


def _files(paths: Iterable[str | Path]) -> list[Path]:
    found: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        if not path.exists():
            raise CorpusError(f"there is no training file {str(path)!r}")
        found += inside if path.is_dir() else [path]
    for file in found:
        if file.suffix in BINARY:
            raise CorpusError(
                f"training files must be text or jsonl, plain or .gz, {file} is {file.suffix};"
                " convert it first"
            )
    return list(dict.fromkeys(found))
