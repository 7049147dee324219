"""Everything that this package refuses, by name: one sentence, what must hold and what was got."""

import difflib
from collections.abc import Iterable


class NeuronXAError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(NeuronXAError, ValueError):
    """An option has a value that cannot be used."""


class CorpusError(NeuronXAError, ValueError):
    """The parallel sentences cannot be measured as they are."""


class TapError(NeuronXAError):
    """The feed-forward neurons of a model could not be read, or not as often as they must."""


class FingerprintError(NeuronXAError):
    """Two reports do not measure the same thing and may not stand in one curve."""


class ProbeError(NeuronXAError):
    """A probe could not be finished; every rank raises it with the same words."""


class ProbeMemoryError(ProbeError):
    """Memory ran out on at least one rank; the next probe runs fewer tokens at a time."""


class BrokenForwardError(NeuronXAError):
    """What all ranks must run together, a forward or an exchange, failed: the job has to end."""


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """One sentence for a name that does not exist, with the nearest one that does."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    guess = f"; did you mean {' or '.join(repr(each) for each in near)}?" if near else ""
    return f"unknown {what}: {name!r}{guess} (known: {', '.join(names)})"
