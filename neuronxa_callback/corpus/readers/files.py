"""Which file of a folder belongs to which language."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from neuronxa_callback.corpus.languages import code_of_name, resolve_all
from neuronxa_callback.corpus.text import shortlist
from neuronxa_callback.errors import CorpusError

SPLIT_WORDS = ("dev", "devtest", "test", "train", "val", "valid", "validation")
NOT_TEXT = (
    ".aux", ".bak", ".bin", ".cfg", ".conllu", ".csv", ".docids", ".html", ".ids",
    ".ini", ".json", ".jsonl", ".log", ".md", ".md5", ".model", ".ndjson", ".npy", ".old", ".orig",
    ".parquet", ".pdf", ".po", ".properties", ".py", ".rej", ".resx", ".score", ".scores", ".sgm",
    ".sh", ".sha1", ".sha256", ".srt", ".strings", ".swp", ".tar", ".tex", ".tmp", ".tmx", ".toml",
    ".tsv", ".vocab", ".vtt", ".xlf", ".xml", ".yaml", ".yml", ".zip", "~",
)  # fmt: skip
"""Endings of files that are not lines of sentences."""
EBIBLE = re.compile(r"([a-z]{3})-\1[\w-]*")
SOURCE = re.compile(r"(?:^|[-_.])(?:src|source)[-_.]")


def find_code_files(
    folder: Path, extension: str | None = None, endings: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """Code -> files for names like ``<code>.<ext>`` or ``dev.<code>``, sorted by code.

    Args:
        folder: The folder.
        extension: Only names with this part; None for all.
        endings: Read only files with one of these endings; empty for lines of sentences.
    """

    def code(name: str) -> str | None:
        parts = name.split(".")
        ending = parts[0] if parts[0] in SPLIT_WORDS else parts[-1]
        is_wanted = extension is None or ending == extension.removeprefix(".")
        return code_of_file(name) if is_wanted else None

    return files_by_code(folder, code, endings)


def code_of_file(name: str) -> str | None:
    """The code in a file's name; None if it names no language.

    >>> [code_of_file(name) for name in ("dev.de", "newstest2019-ref.zho-CN.txt", "dev.txt")]
    ['deu_Latn', 'zho_Hans', None]
    """
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in SPLIT_WORDS:
        return code_of_name(parts[1])
    stem = parts[-2] if len(parts) > 1 else name
    bible = EBIBLE.fullmatch(stem)
    return code_of_name(bible[1] if bible else stem)


def require_folder(path: str | Path) -> Path:
    """The path of an existing folder.

    Raises:
        CorpusError: If it is not a folder.
    """
    folder = Path(path)
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "does not exist"
        raise CorpusError(f"a corpus must be a folder, but {str(folder)!r} {problem}")
    return folder


def files_by_code(
    folder: Path, code_of: Callable[[str], str | None], endings: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """Code -> its files, sorted by code; ``code_of`` gets names without ``.gz``."""
    files: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        name = file.name.removesuffix(".gz")
        is_wanted = name.endswith(tuple(endings)) if endings else not name.endswith(NOT_TEXT)
        if name.startswith((".", "#")) or not is_wanted or not file.is_file():
            continue
        code = code_of(name)
        if code is not None:
            files.setdefault(code, []).append(file)
    return dict(sorted(files.items()))


def prefer_source(files: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
    """Of several files of a language the one named ``src``, which the others translate (NTREX)."""
    preferred = {}
    for code, several in files.items():
        sources = [file for file in several if SOURCE.search(file.name)]
        preferred[code] = sources if len(sources) == 1 else list(several)
    return preferred


def require_one_each(
    candidates: Mapping[str, Sequence[object]],
    codes: Iterable[str],
    source: str,
    kind: str,
    hint: str,
) -> None:
    """Refuse languages that have several files or columns, among those that are used.

    Raises:
        CorpusError: It names them, ``source`` in front and ``hint`` at the end.
    """
    for code in codes:
        if len(candidates[code]) > 1:
            names = ", ".join(getattr(each, "name", str(each)) for each in candidates[code])
            raise CorpusError(f"{source} several {kind} for {code}: {names}; {hint}")


def file_notes(folder: Path, used: Mapping[str, Path]) -> tuple[str, ...]:
    """Which files of a folder were taken and which were left out, as sentences."""
    taken = shortlist([f"{file.name} as {code}" for code, file in used.items()])
    names = [file.name for file in sorted(folder.iterdir()) if file.is_file()]
    others = [name for name in names if name not in {file.name for file in used.values()}]
    left = f"left out {shortlist(others)}"
    return (f"took the files {taken}", *([left] if others else []))


def list_contents(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = [file.name + "/" * file.is_dir() for file in sorted(folder.iterdir())]
    return shortlist(names, 5) or "nothing"


def choose_languages(
    pivot: str, languages: Iterable[str] | None, codes: Sequence[str], source: object
) -> tuple[str, list[str]]:
    """The codes of the pivot and of the languages; None for all but the pivot.

    Raises:
        CorpusError: If one of them is not among ``codes``, or the pivot is among the languages.
    """
    (pivot,) = resolve_in(source, [pivot], codes)
    if languages is None:
        return pivot, [code for code in codes if code != pivot]
    names = resolve_in(source, languages, codes)
    if pivot in names:
        raise CorpusError(f"the pivot {pivot!r} cannot be compared with itself; leave it out")
    return pivot, names


def resolve_in(source: object, names: Iterable[str], codes: Sequence[str]) -> list[str]:
    """The codes that the names mean, without repetitions.

    Raises:
        CorpusError: If one is not among ``codes``; the message begins with the source.
    """
    try:
        return resolve_all(names, codes)
    except CorpusError as cause:
        raise CorpusError(f"{source}: {cause}") from None
