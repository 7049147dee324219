"""Training files as a stream of text: text, JSON records and parquet, also compressed with gzip."""

import codecs
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from neuronxa_callback.errors import CorpusError, reason

CHUNK = 1 << 22
"""Bytes that are read at a time."""
MAX_RECORD_BYTES = 1 << 26
"""A longer line of a JSON file is read as plain text."""
ROWS = 1 << 12
"""Rows of a parquet file that are read at a time."""
MAX_DAMAGED = 0.01
"""The most damaged characters and null bytes per byte of a text."""
RECORDS = (".jsonl", ".json", ".ndjson")
BINARY = (".arrow", ".zst", ".xz", ".bz2", ".zip", ".bin", ".safetensors", ".npy")


def list_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files of paths and folders, each once; a single path may be given by itself.

    Raises:
        CorpusError: If a path does not exist, a folder has no files, or a file is binary.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        if not path.exists():
            raise CorpusError(f"there is no training file {str(path)!r}")
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        if path.is_dir() and not inside:
            raise CorpusError(f"a folder of training files must hold files, but {path} is empty")
        files += inside if path.is_dir() else [path]
    for file in files:
        if file.suffix in BINARY:
            raise CorpusError(
                "training files must be text or jsonl, plain or .gz, or parquet, but"
                f" {file} is {file.suffix}; convert it first"
            )
    return list(dict.fromkeys(files))


def text_chunks(
    file: Path, on_read: Callable[[int], None], chunk_bytes: int = CHUNK
) -> Iterator[bytes]:
    """A file's text in pieces that end between characters, with one line per line of the file.

    Args:
        file: The file; of JSON records only the strings are text.
        on_read: Called after each read with the position in the file as stored.
        chunk_bytes: How much is read at a time.

    Raises:
        CorpusError: If the file cannot be read or is not text.
    """
    if file.suffix == ".parquet":
        yield from _parquet_chunks(file, on_read)
        return
    is_gzip = file.suffix == ".gz"
    is_json = Path(file.name.removesuffix(".gz")).suffix in RECORDS
    rest, text_check = b"", _TextCheck(file)
    try:
        with (
            file.open("rb") as stored,
            gzip.open(stored) if is_gzip else nullcontext(stored) as source,
        ):
            while piece := source.read(chunk_bytes):
                on_read(stored.tell())
                text_check.add(piece)
                complete, rest = _split_complete(rest + piece, is_json)
                yield _json_strings(complete) if is_json else complete
            yield _json_strings(rest) if is_json else rest
    except (OSError, EOFError, zlib.error) as cause:
        raise CorpusError(f"cannot read {file}: {reason(cause)}") from None


def _parquet_chunks(file: Path, on_read: Callable[[int], None]) -> Iterator[bytes]:
    """The strings of a parquet file, one line per row."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise CorpusError(f"reading {file} needs pyarrow; pip install pyarrow") from None
    size, done = file.stat().st_size, 0
    try:
        with parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(ROWS):
                done += batch.num_rows
                on_read(size * done // table.metadata.num_rows)
                yield _lines(batch.to_pylist()) + b"\n"
    except (OSError, ArrowException) as cause:
        raise CorpusError(f"cannot read {file}: {reason(cause)}") from None


class _TextCheck:
    """Refuses a file that is no UTF-8 text, which would be searched in vain."""

    def __init__(self, file: Path) -> None:
        self.file, self.size, self.damaged = file, 0, 0
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, piece: bytes) -> None:
        """Count the damaged characters of the next bytes of the file."""
        text = self.decoder.decode(piece)
        self.size += len(piece)
        self.damaged += text.count("\N{REPLACEMENT CHARACTER}") + text.count("\0")
        if self.damaged > MAX_DAMAGED * self.size:
            raise CorpusError(
                f"training files must be text in UTF-8, but {self.file} holds other bytes;"
                " convert it first"
            )


def _split_complete(text: bytes, at_lines: bool) -> tuple[bytes, bytes]:
    """The complete lines and the rest; without any line, the complete characters."""
    end = text.rfind(b"\n") + 1
    if end == 0 and not (at_lines and len(text) < MAX_RECORD_BYTES):
        end = len(text)
        while end > len(text) - 4 and end > 0 and text[end - 1] >= 0x80:
            end -= 1
    return text[:end], text[end:]


def _json_strings(text: bytes) -> bytes:
    """The strings of JSON records, one line per record; invalid lines as they are."""
    lines = text.split(b"\n")
    try:
        # Parsing all lines at once is several times faster than one by one.
        records = json.loads(b"[" + b",".join(line or b'""' for line in lines) + b"]")
    except (ValueError, RecursionError):
        records = [_parse_record(line) for line in lines]
    if len(records) != len(lines):
        records = [_parse_record(line) for line in lines]
    return _lines(records)


def _lines(records: list[Any]) -> bytes:
    """The strings of records, one line per record."""
    joined = "\n".join(" ".join(_strings_in(record)).replace("\n", " ") for record in records)
    return joined.encode("utf-8", "replace")


def _parse_record(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line.decode("utf-8", "replace")


def _strings_in(value: Any) -> list[str]:
    """All strings in a record, without the names of its fields."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict | list):
        return []
    strings: list[str] = []
    for item in value.values() if isinstance(value, dict) else value:
        if type(item) is str:
            strings.append(item)
        elif isinstance(item, dict | list):
            strings += _strings_in(item)
    return strings
