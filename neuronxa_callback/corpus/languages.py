"""Language codes in any usual form."""

from collections.abc import Iterable

from neuronxa_callback.errors import CorpusError, unknown


def resolve(code_or_name: str, known: Iterable[str] | None = None) -> str:
    """The code that is meant.

    Raises:
        CorpusError: If it is not known.
    """
    raise CorpusError(unknown("language", code_or_name, known or ()))
