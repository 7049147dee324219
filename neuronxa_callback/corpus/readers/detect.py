"""The table of readers, and which of them a path needs."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from neuronxa_callback.corpus.readers import bible, folder, tables
from neuronxa_callback.corpus.readers.lines import text_lines
from neuronxa_callback.corpus.readers.records import JSON_FILES
from neuronxa_callback.corpus.rows import ParallelRows
from neuronxa_callback.errors import CorpusError, unknown
from neuronxa_callback.option_checks import require_path, require_text


class Reader(NamedTuple):
    """One format of parallel text."""

    read: Callable[..., ParallelRows]
    line_files: Callable[..., list[dict[str, Path]]] | None = None
    """Groups of files, by code, in which each line is a sentence; None for other formats."""


READERS = {
    "folder": Reader(folder.read_folder, folder.folder_files),
    "tatoeba": Reader(folder.read_tatoeba, folder.tatoeba_files),
    "bible": Reader(bible.read_bible),
    "tsv": Reader(tables.read_tsv),
    "jsonl": Reader(tables.read_jsonl),
    "parquet": Reader(tables.read_parquet),
    "dataset": Reader(tables.read_dataset),
}
VERSE = re.compile(r"\d{6,}\t")


def guess(path: str | Path) -> str:
    """The reader for a path, one of ``READERS``, by the names and first lines of its files."""
    path = Path(path)
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if path.is_file():
        last = suffixes[-1] if suffixes else ""
        return "parquet" if last == ".parquet" else "jsonl" if last in JSON_FILES else "tsv"
    if not path.is_dir():
        return "tatoeba" if any(path.parent.glob(f"{path.name}.*")) else "folder"
    if folder.is_tatoeba(path):
        return "tatoeba"
    named = [file for file in sorted(path.glob("*.txt*")) if bible.code_of_bible(file.name)]
    starts = filter(None, map(_first_line, named))
    return "bible" if VERSE.match(next(starts, "")) else "folder"


def _first_line(file: Path) -> str:
    """The first line that is neither blank nor a comment; none of a file that cannot be read."""
    try:
        lines = text_lines(file) if file.is_file() else iter(())
        return next((line for line in lines if line.strip() and line[0] != "#"), "")
    except CorpusError:
        return ""  # the reader refuses it by name, if it is one of the corpus


def read(path: str | Path, reader: str | None = None, **options: Any) -> ParallelRows:
    """The rows of a path; None guesses the reader.

    Raises:
        CorpusError: If the reader or an option is unknown, or the files cannot be read.
    """
    require_text("reader", reader, optional=True)
    if reader is None:
        require_path("path", path)
    reader = reader or guess(path)
    function = _find(reader).read
    known = list(inspect.signature(function).parameters)[1:]
    for option in options:
        if option not in known:
            raise CorpusError(unknown(f"option of the reader {reader!r}", option, known))
    return function(path, **options)


def line_files(path: str | Path, reader: str, **options: Any) -> list[tuple[str, Path]]:
    """Language and path of each file in which every line is a sentence.

    Empty for formats that are not line-based, and where ``read`` would fail.
    """
    function = _find(reader).line_files
    if function is None:
        return []
    known = inspect.signature(function).parameters
    try:
        groups = function(path, **{key: options[key] for key in options if key in known})
    except CorpusError:
        return []
    return [item for group in groups for item in group.items()]


def _find(reader: str) -> Reader:
    if reader not in READERS:
        raise CorpusError(unknown("reader", reader, READERS))
    return READERS[reader]
