"""Which file of a folder holds which language."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from neuronxa_callback.corpus import languages as codes_of
from neuronxa_callback.errors import CorpusError

SPLIT_WORDS = ("dev", "devtest", "test", "train", "val", "valid", "validation")
NO_TEXT = (".csv", ".json", ".jsonl", ".md", ".parquet", ".py", ".toml", ".tsv", ".yaml", ".zip")


def code_files(folder: Path, extension: str | None = None) -> dict[str, Path]:
    """The files of a folder that a language names: ``<code>.<ext>`` or ``dev.<code>``, sorted.

    Raises:
        CorpusError: If a language has several files.
    """

    def code(name: str) -> str | None:
        stem, _, ending = name.rpartition(".")
        if stem in SPLIT_WORDS:
            stem, ending = ending, stem
        if extension is not None and ending != extension.removeprefix("."):
            return None
        return codes_of.of_file(stem or ending)

    return by_code(folder, code, "say which with extension=, or keep one")


def existing_folder(path: str | Path) -> Path:
    """The folder; a CorpusError in words where there is none."""
    folder = Path(path)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise CorpusError(f"a corpus must be a folder, {str(folder)!r} {what}")
    return folder


def by_code(
    folder: Path, code_of: Callable[[str], str | None], hint: str = "keep one"
) -> dict[str, Path]:
    """Code -> file, sorted by code; ``code_of`` sees names without ``.gz`` and may say None.

    Raises:
        CorpusError: If a language has several files.
    """
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        name = file.name.removesuffix(".gz")
        if name.startswith(".") or name.endswith(NO_TEXT) or not file.is_file():
            continue
        code = code_of(name)
        if code in found:
            raise CorpusError(
                f"folder {str(folder)!r} has several files for {code}: {found[code].name},"
                f" {file.name}; {hint}"
            )
        if code is not None:
            found[code] = file
    return dict(sorted(found.items()))


def contents(folder: Path) -> str:
    """What is in a folder, for a message."""
    names = [file.name + "/" * file.is_dir() for file in sorted(folder.iterdir())]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "nothing") + more


def chosen(
    pivot: str, languages: Iterable[str] | None, codes: Sequence[str], where: object
) -> tuple[str, list[str]]:
    """The pivot and the languages that are meant; all but the pivot where none are named.

    Raises:
        CorpusError: If one of them is not among ``codes``, or the pivot is named as a language.
    """
    (own,) = resolved([pivot], codes, where)
    if languages is None:
        return own, [code for code in codes if code != own]
    names = resolved(languages, codes, where)
    if own in names:
        raise CorpusError(f"the pivot {own!r} cannot be compared with itself; leave it out")
    return own, names


def resolved(names: Iterable[str], codes: Sequence[str], where: object) -> list[str]:
    """Which of the codes are meant, each once.

    Raises:
        CorpusError: If one is not there; the sentence says where.
    """
    names = (names,) if isinstance(names, str) else names
    try:
        return list(dict.fromkeys(codes_of.resolve(name, codes) for name in names))
    except CorpusError as cause:
        raise CorpusError(f"{where}: {cause}") from None
