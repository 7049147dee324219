"""Groups of languages: by script, family or resources, or of one's own.

Scripts are ISO 15924 codes (CLDR). Families are those of Glottolog, and resources are the classes
0 to 5 of Joshi et al., 2020 (arXiv:2004.09095); ``language_facts.tsv`` has both for the languages
of FLORES-200. A language without an entry is in the group ``no-family`` or ``no-class``.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from neuronxa_callback.corpus.languages import resolve_all, script
from neuronxa_callback.corpus.tags import parse_tag
from neuronxa_callback.errors import ConfigError, CorpusError, unknown
from neuronxa_callback.option_checks import list_of_names, require, require_text

FACTS = Path(__file__).with_name("language_facts.tsv")

Groups = str | Mapping[str, Sequence[str]]
"""A kind of groups (one of ``KINDS``), or name -> languages in any usual form."""


def group_languages(
    groups: Sequence[Groups] | Groups | None, languages: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Name of a group -> those of the languages that belong to it, in their order.

    >>> group_languages("resource", ["deu_Latn", "fra_Latn", "swh_Latn"])
    {'class-2': ('swh_Latn',), 'class-5': ('deu_Latn', 'fra_Latn')}
    >>> group_languages(["script", {"mine": ["German", "sw"]}], ["deu_Latn", "swh_Latn"])
    {'Latn': ('deu_Latn', 'swh_Latn'), 'mine': ('deu_Latn', 'swh_Latn')}

    Args:
        groups: As in ``ProbeConfig.groups``.
        languages: Codes.

    Raises:
        ConfigError: If a group names a language that is not among them, or two have one name.
    """
    found: dict[str, tuple[str, ...]] = {}
    for each in as_groups(groups):
        members = _of_kind(each, languages) if isinstance(each, str) else _own(each, languages)
        for name in members:
            require(name not in found, "groups", "groups with names that differ", name)
        found |= members
    return found


def as_groups(value: object) -> tuple[Groups, ...]:
    """The option ``groups`` as a tuple of kinds and mappings; empty for None.

    Raises:
        ConfigError: If it is neither a kind, a mapping of names to languages, nor a list of these.
    """
    if value is None:
        return ()
    parts = value if isinstance(value, list | tuple) else (value,)
    return tuple(_checked(part) for part in parts)


def _checked(part: object) -> Groups:
    if isinstance(part, str):
        if part not in KINDS:
            raise ConfigError(unknown("kind of groups", part, tuple(KINDS)))
        return part
    expected = f"one of {', '.join(KINDS)}, a mapping of names to languages, or a list of these"
    if not isinstance(part, Mapping):
        raise ConfigError(f"groups must be {expected}, got {part!r}")
    own: dict[str, tuple[str, ...]] = {}
    for name, members in part.items():
        require_text("the name of a group", name)
        usable = name.strip() != "" and "/" not in name and name.isprintable()
        require(usable, "the name of a group", "a text without '/'", name)
        own[name] = list_of_names(f"the group {name}", members)
        require(len(own[name]) > 0, f"the group {name}", "at least one language", members)
    return own


def _own(
    groups: Mapping[str, Sequence[str]], languages: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, members in groups.items():
        try:
            codes = resolve_all(members, languages)
        except CorpusError as cause:
            raise ConfigError(f"the group {name!r} must name measured languages: {cause}") from None
        found[name] = tuple(code for code in languages if code in codes)
    return found


def _of_kind(kind: str, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    names = {code: KINDS[kind](code) for code in languages}
    return {
        name: tuple(code for code in languages if names[code] == name)
        for name in sorted(set(names.values()))
    }


def _script(code: str) -> str:
    return script(code) or "no-script"


def _family(code: str) -> str:
    return _fact(code, "family") or "no-family"


def _resources(code: str) -> str:
    number = _fact(code, "class")
    return f"class-{number}" if number else "no-class"


KINDS = {"script": _script, "family": _family, "resource": _resources}
"""Kind of groups -> the name of a language's group."""


def _fact(code: str, column: str) -> str:
    tag = parse_tag(code)
    return _facts().get(tag.language, {}).get(column, "") if tag else ""


@cache
def _facts() -> dict[str, dict[str, str]]:
    """Code -> column -> entry of the table."""
    lines = FACTS.read_text(encoding="utf-8").splitlines()
    header, *rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return {row[0]: dict(zip(header, row, strict=True)) for row in rows}
