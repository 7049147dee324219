"""Exceptions raised by this package. A message is one sentence: what is wrong and what to do."""

import difflib
import json
from collections.abc import Iterable


class NeuronXAError(Exception):
    """Base class of all exceptions raised by this package."""


class ConfigError(NeuronXAError, ValueError):
    """An option has a value that cannot be used."""


class CorpusError(NeuronXAError, ValueError):
    """The parallel sentences cannot be read or measured."""


class ReportError(NeuronXAError, ValueError):
    """A text is not a report, or contradicts itself."""


class TapError(NeuronXAError):
    """The feed-forward neurons of a model were not found, or not read as often as expected."""


class FingerprintError(NeuronXAError):
    """Two reports do not measure the same thing, so they cannot be compared."""


class ProbeError(NeuronXAError):
    """A probe failed; every rank raises it."""


class ProbeMemoryError(ProbeError):
    """At least one rank ran out of memory; the next probe uses half of the ``batch_tokens``."""


class BrokenForwardError(NeuronXAError):
    """A forward pass or an exchange between ranks failed, so the job cannot go on."""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """An error message for an unknown name, with the nearest known ones.

    Example:
        >>> unknown("metric", "nsca", ["nasca", "mexa"])
        "unknown metric: 'nsca'; did you mean 'nasca'? (known: nasca, mexa)"
    """
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"unknown {kind}: {name!r}{guess} (known: {', '.join(names)})"


def reason(cause: BaseException) -> str:
    """Why something failed, in words, without the names of Python's types and of system errors.

    Example:
        >>> reason(KeyError("points")), reason(TypeError("'int' object is not subscriptable"))
        ("'points' is missing", 'a value has a wrong type')
        >>> reason(FileNotFoundError(2, "No such file or directory", "a.txt"))
        'No such file or directory'
    """
    match cause:
        case RecursionError():
            return "it is nested too deeply"
        case KeyError() if cause.args:
            return f"{cause.args[0]!r} is missing"
        case TypeError() | AttributeError() | LookupError():
            return "a value has a wrong type"
        case UnicodeDecodeError():
            return f"byte 0x{cause.object[cause.start]:02x} at position {cause.start} is not UTF-8"
        case json.JSONDecodeError():
            return f"{cause.msg} at line {cause.lineno}, column {cause.colno}"
        case OSError() if cause.strerror:
            return cause.strerror
    return " ".join(str(cause).split()) or type(cause).__name__


def kind_of(value: object) -> str:
    """What a value of a file is, in the words of JSON.

    Example:
        >>> kind_of(None), kind_of("a"), kind_of([1])
        ('null', 'text', 'list')
    """
    kinds = {type(None): "null", str: "text", dict: "object", bool: "true or false"}
    kinds |= {int: "number", float: "number"}
    return kinds.get(type(value), type(value).__name__)
