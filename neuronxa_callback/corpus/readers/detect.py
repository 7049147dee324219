"""Which reader a path is for, and the files that it would read."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neuronxa_callback.corpus.parallel import PIVOT, ParallelCorpus
from neuronxa_callback.corpus.readers import folder as readers
from neuronxa_callback.corpus.readers.files import chosen, code_files, existing_folder
from neuronxa_callback.corpus.readers.lines import decoded
from neuronxa_callback.errors import CorpusError, unknown

READERS = ("folder", "tatoeba", "bible", "tsv", "jsonl")
BY_LINE = ("folder", "tatoeba")
"""Readers of files in which each line is a sentence."""

VERSE = re.compile(r"\d{6,}\t")


def guess(path: str | Path) -> str:
    """Which reader the files call for, one of ``READERS``."""
    path = Path(path)
    kinds = [suffix for suffix in path.suffixes if suffix != ".gz"]
    if path.is_file():
        return "jsonl" if kinds and kinds[-1] in (".jsonl", ".json") else "tsv"
    if not path.is_dir():
        return "tatoeba" if any(path.parent.glob(f"{path.name}.*")) else "folder"
    if readers.is_tatoeba(path):
        return "tatoeba"
    first = next((file for file in sorted(path.glob("*.txt*")) if file.is_file()), None)
    lines = (line for line in decoded(first) if not line.startswith("#")) if first else iter(())
    return "bible" if VERSE.match(next(lines, "")) else "folder"


def read(path: str | Path, reader: str, **options: Any) -> ParallelCorpus:
    """The corpus that a reader makes of a path.

    Raises:
        CorpusError: If there is no such reader, or it cannot read it.
    """
    if reader not in READERS:
        raise CorpusError(unknown("reader", reader, READERS))
    found: ParallelCorpus = getattr(ParallelCorpus, f"from_{reader}")(path, **options)
    return found


def text_files(
    path: str | Path,
    reader: str,
    pivot: str = PIVOT,
    languages: Iterable[str] | None = None,
    extension: str | None = None,
    **_: Any,
) -> Iterator[tuple[str, Path]]:
    """Language and file of all files in which each line is a sentence; none for other readers."""
    try:
        if reader == "folder":
            folder = existing_folder(path)
            files = code_files(folder, extension)
            own, names = chosen(pivot, languages, list(files), folder)
            yield from ((code, files[code]) for code in (own, *names))
        elif reader == "tatoeba":
            for files in readers.tatoeba_files(Path(path), pivot, languages):
                yield from files.items()
    except CorpusError:
        return  # the reader says it better
