"""Checks of options: a value of a wrong type or out of range is an error that names the option."""

import functools
import inspect
import math
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from neuronxa_callback.errors import ConfigError

T = TypeVar("T")


def require(accepted: bool, name: str, expected: str, value: object) -> None:
    """Raise an error if a value is not accepted.

    Raises:
        ConfigError: Names the option, what is expected and the value.
    """
    if not accepted:
        raise ConfigError(f"{name} must be {expected}, got {reprlib.repr(value)}")


def require_text(name: str, value: object, optional: bool = False) -> None:
    """Accept a text, and None if the option is optional."""
    expected = "a text or None" if optional else "a text"
    require(isinstance(value, str) or (optional and value is None), name, expected, value)


def require_path(name: str, value: object) -> None:
    """Accept a path as a text or a ``Path``."""
    is_path = isinstance(value, Path) or (isinstance(value, str) and value != "")
    require(is_path and "\0" not in str(value), name, "a path", value)


def require_flag(name: str, value: object) -> None:
    """Accept True and False."""
    require(isinstance(value, bool), name, "true or false", value)


def require_integer(name: str, value: object, least: int, optional: bool = False) -> None:
    """Accept an integer of at least ``least``, and None if the option is optional."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    expected = f"an integer of at least {least}"
    require(fits or (optional and value is None), name, expected, value)


def whole_number(name: str, value: object, least: int) -> int:
    """An integer of any kind, such as numpy's, of at least ``least``.

    >>> whole_number("step", 3, least=0)
    3

    Raises:
        ConfigError: If it is something else.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = least - 1
    fits = number >= least and not isinstance(value, bool)
    require(fits, name, f"an integer of at least {least}", value)
    return number


def require_positive(name: str, value: object) -> None:
    """Accept a finite number above 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    require(is_number and 0 < value < math.inf, name, "a number above 0", value)  # type: ignore[operator]


def require_share(name: str, value: object, zero: bool, optional: bool = False) -> None:
    """Accept a number below 1 that is above 0, or at least 0 if ``zero``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = is_number and (0 if zero else 1e-300) <= value < 1  # type: ignore[operator]
    expected = "in [0, 1)" if zero else "between 0 and 1"
    require(fits or (optional and value is None), name, expected, value)


def require_mapping(name: str, value: object) -> None:
    """Accept a mapping of texts to texts."""
    fits = isinstance(value, Mapping) and all(
        isinstance(part, str) for item in value.items() for part in item
    )
    require(fits, name, "a mapping of texts to texts", value)


def list_of_names(name: str, value: object) -> tuple[str, ...]:
    """The names of a list, each once; those of a set are sorted.

    Raises:
        ConfigError: If it is no list of texts.
    """
    if isinstance(value, str):
        raise ConfigError(f"{name} must be a list of names, got the text {value!r}")
    names = list_of(name, "a list of names", value, str)
    # The order of a set differs between the processes of a distributed run.
    return tuple(dict.fromkeys(sorted(names) if isinstance(value, set | frozenset) else names))


def list_of(name: str, expected: str, value: object, kind: type[T]) -> tuple[T, ...]:
    """The objects of a list or another iterable that is no text and no mapping.

    Raises:
        ConfigError: If it is something else, or an object is not of the ``kind``.
    """
    is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    objects = tuple(value) if isinstance(value, Iterable) and is_list else ()
    require(is_list and all(isinstance(each, kind) for each in objects), name, expected, value)
    return objects


def check_reader_options(read: Callable[..., Any]) -> Callable[..., Any]:
    """A reader of parallel sentences that checks its options first.

    Raises:
        ConfigError: Names the first option whose value cannot be used.
    """

    @functools.wraps(read)
    def checked(*arguments: Any, **options: Any) -> Any:
        for name, value in inspect.signature(read).bind(*arguments, **options).arguments.items():
            _check_reader_option(name, value)
        return read(*arguments, **options)

    return checked


def _check_reader_option(name: str, value: Any) -> None:
    if name == "path":
        require_path(name, value)
    elif name in ("pivot", "split", "extension", "config"):
        require_text(name, value, optional=name != "pivot")
    elif name == "languages" and value is not None and not isinstance(value, str):
        list_of_names(name, value)
    elif name == "n_pairs":
        require_integer(name, value, least=1, optional=True)
    elif name == "columns" and value is not None:
        require_mapping(name, value)
    elif name == "delimiter":
        is_letter = isinstance(value, str) and len(value) == 1 and value not in '\n\r"'
        require(value is None or is_letter, name, "one character or None", value)
    elif name == "quoted":
        require_flag(name, value)
