"""Which runs of a page measure the same thing, and a sentence about those that do not."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from neuronxa_callback.errors import FingerprintError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import without_nan

Definition = Mapping[str, Any]


def definition_of(report: AlignmentReport) -> Definition:
    """What a report measures, as plain numbers and texts."""
    definition: Definition = without_nan(report.fingerprint.get("definition", {}))
    return definition


def measurement_numbers(definitions: Sequence[Definition]) -> list[int]:
    """A number per run; runs with the same number measure the same thing.

    >>> measurement_numbers([{"n_pairs": 100}, {"n_pairs": 50}, {"n_pairs": 100}])
    [0, 1, 0]
    """
    known: list[Definition] = []
    numbers = []
    for definition in definitions:
        same = (k for k, one in enumerate(known) if not _different(one, definition))
        number = next(same, len(known))
        known += [definition] if number == len(known) else []
        numbers.append(number)
    return numbers


def differences(definitions: Mapping[str, Definition]) -> Iterator[str]:
    """One sentence for each run that does not measure the same thing as the first one.

    >>> [note] = differences({"a": {"n_pairs": 100}, "b": {"n_pairs": 50}})
    >>> note.endswith("so their scores are not comparable (different: n_pairs)")
    True
    """
    (first, of_first), *others = definitions.items()
    for name, definition in others:
        different = _different(of_first, definition)
        if different:
            yield (
                f"{first} and {name} do not measure the same thing, so their scores are not"
                f" comparable (different: {', '.join(different)})"
            )


def _different(one: Definition, other: Definition) -> list[str]:
    return [key for key in dict.fromkeys((*one, *other)) if _differs(one, other, key)]


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Whether an entry differs; the name of a corpus may differ if its digest does not."""
    keys = (key, "digest") if one.get("digest") == other.get("digest") else (key,)
    a, b = ({k: parts[k] for k in keys if k in parts} for parts in (one, other))
    try:
        check_same_fingerprint({"definition": a}, {"definition": b}, ("definition",))
    except FingerprintError:
        return True
    return False
