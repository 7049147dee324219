"""Which file of a folder belongs to which language."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from neuronxa_callback.corpus.languages import code_of_name, region, resolve, resolve_all
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
NUMBER = re.compile(r"[-_.]\d+$")
"""Behind the name of a second translation (``ref-2.spa``)."""


class ChosenFiles(NamedTuple):
    """One file of each language, the pivot first."""

    by_code: dict[str, Path]
    others: tuple[Path, ...]
    """Further files of languages that nobody asked for by name."""


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
        is_wanted = extension is None or _ending(name) == extension.removeprefix(".")
        return code_of_file(name) if is_wanted else None

    return files_by_code(folder, code, endings)


def code_of_file(name: str) -> str | None:
    """The code in a file's name; None if it names no language.

    >>> [code_of_file(name) for name in ("dev.de", "newstest2019-ref.zho-CN.txt", "dev.txt")]
    ['deu_Latn', 'zho_Hans', None]
    """
    return code_of_name(language_part(name))


def language_part(name: str) -> str:
    """The part of a file's name that says the language; ``name`` has no ``.gz``.

    >>> language_part("newstest2019-ref.zho-CN.txt")
    'zho-CN'
    """
    parts = name.split(".")
    if len(parts) == 2 and parts[0] in SPLIT_WORDS:
        return parts[1]
    stem = parts[-2] if len(parts) > 1 else name
    bible = EBIBLE.fullmatch(stem)
    return bible[1] if bible else stem


def _ending(name: str) -> str:
    """The part of a file's name that says which text it is: ``dev``, ``txt``."""
    parts = name.split(".")
    return parts[0] if parts[0] in SPLIT_WORDS else parts[-1]


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


def choose_files(
    files: Mapping[str, Sequence[Path]],
    pivot: str,
    languages: Iterable[str] | None,
    source: Path,
    part: Callable[[str], str] = language_part,
) -> ChosenFiles:
    """One file of each language: the one whose name is closest to the name that was asked for.

    Args:
        files: Code -> its files.
        pivot: The code or name of the pivot.
        languages: Codes or names; None for all.
        source: The folder, or the prefix of the files.
        part: What a file's name without ``.gz`` says about its language.

    Raises:
        CorpusError: If there is no file of a language, or several that fit equally.
    """
    names = None
    if languages is not None:
        # The order of a set differs between the processes of a distributed run.
        is_set = isinstance(languages, set | frozenset)
        names = [languages] if isinstance(languages, str) else list(languages)
        names = sorted(names) if is_set else names
    known = list(files)
    own, codes = choose_languages(pivot, names, known, source)
    named = codes if names is None else names
    asked = [(own, pivot), *((resolve(name, known), name) for name in named)]
    kind = "folder" if source.is_dir() else "the prefix"
    chosen: dict[str, Path] = {}
    others: list[Path] = []
    for code, name in asked:
        fitting = _closest(files[code], name, part)
        hint = _how_to_choose([part(_plain_name(file)) for file in fitting], fitting)
        require_one_each({code: fitting}, [code], f"{kind} {str(source)!r} has", "files", hint)
        if chosen.setdefault(code, fitting[0]) != fitting[0]:
            raise CorpusError(
                f"{source}: {chosen[code].name} and {fitting[0].name} are both {code}; ask for one"
                " of them at a time"
            )
        is_open = name == code and (names is None or code == own)
        if is_open and not SOURCE.search(fitting[0].name):
            others += [file for file in files[code] if file != fitting[0]]
    return ChosenFiles(chosen, tuple(others))


def _closest(files: Sequence[Path], name: str, part: Callable[[str], str]) -> list[Path]:
    """Of several files of a language those that fit a name best.

    With a region, those of the region; then those named ``src``, which the others translate
    (NTREX), those without a region, those with this very name, and those without a number.
    """
    wanted = region(name)
    parts = {file: part(_plain_name(file)) for file in files}
    heads = {file: _plain_name(file).rpartition(parts[file])[0].rstrip("-_.") for file in files}
    steps: tuple[Callable[[Path], bool], ...] = (
        lambda file: wanted is not None and region(parts[file]) == wanted,
        lambda file: SOURCE.search(file.name) is not None,
        lambda file: region(parts[file]) is None,
        lambda file: parts[file].casefold() == name.casefold(),
        lambda file: NUMBER.sub("", heads[file]) not in {*heads.values()} - {heads[file]},
    )
    kept = list(files)
    for fits in steps:
        kept = [file for file in kept if fits(file)] or kept
    return kept


def _how_to_choose(parts: Sequence[str], files: Sequence[Path]) -> str:
    """How to choose one of several files of a language, for the end of a message."""
    if len(set(parts)) == len(parts):
        return f"ask for one by its name, such as {parts[0]!r}"
    if len({_ending(_plain_name(file)) for file in files}) == len(files):
        return "choose one with extension=, or keep one"
    return "keep one"


def _plain_name(file: Path) -> str:
    return file.name.removesuffix(".gz")


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


def file_notes(
    folder: Path, used: Mapping[str, Path], others: Sequence[Path] = ()
) -> tuple[str, ...]:
    """Which files of a folder were taken and which were left out, as sentences.

    Args:
        folder: The folder.
        used: Code -> file.
        others: Further files of these languages, which come first.
    """
    taken = shortlist([f"{file.name} as {code}" for code, file in used.items()])
    twins = [file.name for file in others]
    listed = {*twins, *(file.name for file in used.values())}
    rest = [file.name for file in sorted(folder.iterdir()) if file.is_file()]
    rest = [name for name in rest if name not in listed]
    notes = [f"took the files {taken}"]
    if twins:
        notes.append(f"left out {shortlist(twins)}, since another file of the language was taken")
    return (*notes, *([f"left out {shortlist(rest)}"] if rest else []))


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
