"""Which column of a table belongs to which language: by its name and by its cells."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from neuronxa_callback.corpus.languages import code_of_name
from neuronxa_callback.corpus.readers.cells import other_content
from neuronxa_callback.corpus.text import shortlist
from neuronxa_callback.errors import CorpusError

WORD = "sentences?|sents?|text|translations?|lines?|utterance|caption|segment|string|content"
AFFIX = re.compile(rf"(?:{WORD})[_.: -](.+)|(.+)[_.: -](?:{WORD})", re.IGNORECASE)
ROLES = {"src", "ref", "hyp", "tgt", "source", "target", "reference", "hypothesis"}
NO_LANGUAGE = "no language"
ROLE_CODES = ("mt", "pe")
"""Machine translation and post-edit beside a column of ``ROLES``; else Maltese is a language."""


class ColumnChoice(NamedTuple):
    """The columns of every language, and a reason for each column that was left out."""

    by_code: dict[str, list[str]]
    left_out: dict[str, str]

    def notes(self, codes: Sequence[str]) -> tuple[str, ...]:
        """What was taken for these languages and what was left out, as sentences."""
        taken = shortlist([f"{self.by_code[code][0]!r} as {code}" for code in codes])
        others = [
            f"{column!r} (not asked for)"
            for code, columns in self.by_code.items()
            if code not in codes
            for column in columns
        ]
        others += [f"{column!r} ({reason})" for column, reason in self.left_out.items()]
        return (f"took the columns {taken}", *([f"left out {shortlist(others)}"] * bool(others)))

    def hint(self) -> str:
        """The columns that are named like a language and were left out, for a message."""
        likely = [f"{name!r}: {why}" for name, why in self.left_out.items() if why != NO_LANGUAGE]
        return f"; left out {', '.join(likely)}; take them with columns=" if likely else ""


def language_of_column(name: str) -> str | None:
    """The code in a column's name: ``de``, ``German``, ``sentence_deu_Latn``, ``de_text``."""
    affix = AFFIX.fullmatch(name)
    return (code_of_name(affix[1] or affix[2]) if affix else None) or code_of_name(name)


def find_columns(records: Sequence[Mapping[str, Any]]) -> ColumnChoice:
    """Languages and their columns in the first records of a table.

    A column is taken if its name is a language and its cells look like sentences.
    """
    prefix = ""
    if any(isinstance(record.get("translation"), Mapping) for record in records):
        prefix = "translation."
        nested = (record.get("translation") for record in records)
        records = [record for record in nested if isinstance(record, Mapping)]
    choice = ColumnChoice({}, {})
    keys = dict.fromkeys(key for record in records for key in record)
    has_roles = any(str(key).lower() in ROLES for key in keys)
    for key in keys:
        code = language_of_column(str(key))
        content = other_content([record.get(key) for record in records])
        if code is None:
            choice.left_out[f"{prefix}{key}"] = NO_LANGUAGE
        elif has_roles and str(key).lower() in ROLE_CODES:
            choice.left_out[f"{prefix}{key}"] = "a machine translation"
        elif content is not None:
            choice.left_out[f"{prefix}{key}"] = f"its cells are {content}"
        else:
            choice.by_code.setdefault(code, []).append(f"{prefix}{key}")
    return choice


def by_language(columns: Mapping[str, str], source: str) -> dict[str, list[str]]:
    """Code -> its column, for languages in any usual form; a name that is no language is kept.

    >>> by_language({"German": "target", "my dialect": "other"}, "t.tsv")
    {'deu_Latn': ['target'], 'my dialect': ['other']}

    Raises:
        CorpusError: If two names mean one language.
    """
    found: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for name, column in columns.items():
        code = code_of_name(name) or name
        if code in found:
            raise CorpusError(
                f"columns= must name a language once, but {names[code]!r} and {name!r} are both"
                f" {code} in {source}; leave one out"
            )
        found[code], names[code] = [column], name
    return found


def require_two(choice: ColumnChoice, columns: Sequence[object], source: str) -> None:
    """Refuse a table in which fewer than two languages were found.

    Raises:
        CorpusError: It lists the columns, and names those that look like a language.
    """
    if len(choice.by_code) > 1:
        return
    raise CorpusError(
        f"{source} must have a column for the pivot and one for another language, it has"
        f" {', '.join(map(repr, columns))}; name them with columns={{'deu_Latn': ...}}"
        f"{choice.hint()}"
    )
