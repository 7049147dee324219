"""The built-in sentences: one file per language in ``corpus/builtin/<split>``."""

from collections.abc import Iterable
from pathlib import Path

from neuronxa_callback.corpus.languages import resolve_all
from neuronxa_callback.corpus.readers.lines import read_lines
from neuronxa_callback.corpus.rows import PIVOT, ParallelRows
from neuronxa_callback.errors import CorpusError, unknown
from neuronxa_callback.option_checks import check_reader_options

SPLITS = ("dev", "test")
BUILTIN = Path(__file__).parents[1] / "builtin"
BUILTIN_VERSION = 1
"""Increases whenever a built-in sentence changes: scores of two versions are not comparable."""


@check_reader_options
def read_builtin(
    split: str = "dev",
    languages: Iterable[str] | None = None,
    pivot: str = PIVOT,
    root: Path = BUILTIN,
) -> ParallelRows:
    """See ``ParallelCorpus.builtin``; ``root`` is the folder of the splits."""
    if split not in SPLITS:
        raise CorpusError(unknown("split of the built-in corpus", split, SPLITS))
    files = {path.stem: path for path in sorted((root / split).glob("*.txt"))}
    (pivot,) = resolve_all([pivot], files)
    codes = [code for code in files if code != pivot]
    if languages is not None:
        codes = resolve_all(languages, files)
    texts = {code: read_lines(files[code]) for code in (pivot, *codes)}
    if len({len(lines) for lines in texts.values()}) > 1:
        counts = {code: len(lines) for code, lines in texts.items()}
        raise CorpusError(f"built-in files must have the same number of lines, got {counts}")
    places = {
        code: tuple(f"{code}.txt:{i + 1}" for i in range(len(lines)))
        for code, lines in texts.items()
    }
    return ParallelRows(
        pivot,
        {code: tuple(zip(texts[pivot], texts[code], strict=True)) for code in codes},
        f"builtin:{split}@{BUILTIN_VERSION}",
        {code: places[code] for code in codes}
        | {f"{code}/{pivot}": places[pivot] for code in codes},
    )
