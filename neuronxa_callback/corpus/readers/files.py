"""Which file of a folder belongs to which language."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from neuronxa_callback.corpus.languages import code_of_name, resolve_all
from neuronxa_callback.errors import CorpusError

SPLIT_WORDS = ("dev", "devtest", "test", "train", "val", "valid", "validation")
NOT_TEXT = (".csv", ".json", ".jsonl", ".md", ".parquet", ".py", ".toml", ".tsv", ".yaml", ".zip")


def find_code_files(folder: Path, extension: str | None = None) -> dict[str, Path]:
    """Code -> file for names like ``<code>.<ext>`` or ``dev.<code>``, sorted by code.

    Raises:
        CorpusError: If a language has several files.
    """

    def code(name: str) -> str | None:
        stem, _, ending = name.rpartition(".")
        if stem in SPLIT_WORDS:
            stem, ending = ending, stem
        if extension is not None and ending != extension.removeprefix("."):
            return None
        return code_of_name(stem or ending)

    return files_by_code(folder, code, "choose one with extension=, or keep one")


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
    folder: Path, code_of: Callable[[str], str | None], hint: str = "keep one"
) -> dict[str, Path]:
    """Code -> file, sorted by code; ``code_of`` gets names without ``.gz``, None skips a file.

    Raises:
        CorpusError: If a language has several files.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name = file.name.removesuffix(".gz")
        if name.startswith(".") or name.endswith(NOT_TEXT) or not file.is_file():
            continue
        code = code_of(name)
        if code in files:
            raise CorpusError(
                f"folder {str(folder)!r} has several files for {code}: {files[code].name},"
                f" {file.name}; {hint}"
            )
        if code is not None:
            files[code] = file
    return dict(sorted(files.items()))


def list_contents(folder: Path) -> str:
    """The first names in a folder, for a message."""
    names = [file.name + "/" * file.is_dir() for file in sorted(folder.iterdir())]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "nothing") + more


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
