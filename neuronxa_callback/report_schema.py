"""The rules for a report as JSON; ``docs/report.schema.json`` has those that JSON Schema can state.

A line is a report only if it is whole and consistent, so a damaged line never becomes a score.
"""

import json
import math
import reprlib
from collections.abc import Iterable
from itertools import chain
from typing import Any

from neuronxa_callback.errors import ReportError, reason
from neuronxa_callback.language_pairs import check_language_pairs

SCHEMA = 3
"""Version of the JSON format; only this version is read."""
MEAN = "mean"
RESERVED = (
    MEAN, "chance", "early", "middle", "late", "peak", "seconds", "low", "high", "worst", "group",
)  # fmt: skip
"""Words used in the keys of ``scalars``; no language may have one of these names."""
GROUP = "group:"
"""Marks a group of languages where a language may be named too."""
MAX_INTEGER = 2**63 - 1
MAX_SUM = 2**31 - 1
"""The largest number per pair, summed over layers."""
MAX_DEPTH = 32
"""The deepest nesting of fingerprint, diagnostics and run."""
PLAIN_FIELDS = ("schema", "step", "pivot", "languages", "n_pairs", "warnings", "metrics")
FREE_FIELDS = ("fingerprint", "diagnostics", "run")
OPTIONAL_FIELDS = ("groups", "language_pairs")
"""Fields that are written only if they are not empty."""
COUNTS = ("pivot_to_target", "target_to_pivot", "mutual")
PAIR_COUNTS = ("sole_blocks", "second_differences", "blockers")
METRIC_FIELDS = frozenset(
    ("layers", "hits", "intervals", "layer_intervals", "hubs", "hub_limited", *COUNTS, *PAIR_COUNTS)
)
RUN_NUMBERS = ("seconds", "sink_seconds", "loss", "loss_step", "epoch", "max_steps")
HEX_DIGITS = "0123456789abcdef"


def parse_report(text: str) -> dict[str, Any]:
    """The JSON values of a report, checked.

    Raises:
        ReportError: The first rule that is broken, and where.
    """
    try:
        plain = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_twins)
        if "\\u" in text or not text.isascii():
            json.dumps(plain, ensure_ascii=False).encode()  # fails for half of a surrogate pair
    except (ValueError, TypeError, RecursionError) as cause:
        raise ReportError(f"the line must be one JSON object: {reason(cause)[:200]}") from None
    report = _object(plain, "the line", ("schema",))
    if type(plain["schema"]) is not int or plain["schema"] != SCHEMA:
        raise _error("schema", str(SCHEMA), plain["schema"])
    _check_fields(report)
    return report


def _check_fields(plain: dict[str, Any]) -> None:
    _exactly(plain, "the report", {*PLAIN_FIELDS, *FREE_FIELDS, *({*OPTIONAL_FIELDS} & {*plain})})
    _integer(plain["step"], "step", 0, MAX_INTEGER)
    _integer(plain["n_pairs"], "n_pairs", 1, MAX_INTEGER)
    _text(plain["pivot"], "pivot")
    languages = _texts(plain["languages"], "languages")
    reserved = [name for name in languages if name in RESERVED or name.startswith(GROUP)]
    if not languages or reserved:
        raise _error("languages", "at least one name, none of them reserved", languages)
    for warning in _list(plain["warnings"], "warnings"):
        if type(warning) is not str:
            raise _error("warnings", "a list of texts", warning)
    for name in FREE_FIELDS:
        _check_plain(_object(plain[name], name), name)
    if not _object(plain["metrics"], "metrics"):
        raise _error("metrics", "at least one metric", plain["metrics"])
    _check_fingerprint(plain)
    _check_run(plain["run"])
    means = {MEAN, *_check_groups(plain.get("groups", {}), languages)}
    for name, scores in plain["metrics"].items():
        _text(name, "a metric")
        _check_metric(scores, name, plain, means)
    check_language_pairs(plain)


def _check_groups(groups: Any, languages: list[str]) -> list[str]:
    """The names of the groups in ``intervals``."""
    for name, members in _object(groups, "groups").items():
        _text(name, "a group")
        if not members or not {*_texts(members, f"groups.{name}")} <= {*languages} or "/" in name:
            raise _error(f"groups.{name}", "at least one language of the report", members)
    return [f"{GROUP}{name}" for name in groups]


def _check_fingerprint(plain: dict[str, Any]) -> None:
    """The definition may lack entries, but those that it has agree with the report."""
    for part, entries in plain["fingerprint"].items():
        _object(entries, f"fingerprint.{part}")
    definition = plain["fingerprint"].get("definition", {})
    names = ("pivot", "n_pairs", "languages", "metrics")
    known = {name: plain[name] for name in names if name in definition}
    for name, value in known.items():
        same = definition[name] == value
        if name in ("languages", "metrics") and isinstance(definition[name], dict | list):
            same = sorted(map(str, definition[name])) == sorted(value)
        if not same:
            raise _error(f"fingerprint.definition.{name}", f"that of {name}", definition[name])
    if type(definition.get("shared_pivot", True)) is not bool:
        raise _error("fingerprint.definition.shared_pivot", "a bool", definition["shared_pivot"])


def _check_run(run: dict[str, Any]) -> None:
    for name in ("id", "name"):
        if type(run.get(name, "")) is not str:
            raise _error(f"run.{name}", "a text", run[name])
    for name in RUN_NUMBERS:
        number = run.get(name)
        if number is not None and type(number) not in (int, float):
            raise _error(f"run.{name}", "a number", number)
        if name.endswith("seconds") and name in run and (number is None or number < 0):
            raise _error(f"run.{name}", "a number of at least 0", number)


def _check_metric(scores: Any, metric: str, plain: dict[str, Any], means: set[str]) -> None:
    languages, n = plain["languages"], plain["n_pairs"]
    where = f"metrics.{metric}"
    _exactly(scores, where, METRIC_FIELDS)
    layers = _list(scores["layers"], f"{where}.layers")
    if not layers or len({*map(str, layers)}) < len(layers):
        raise _error(f"{where}.layers", "at least one layer, each once", layers)
    for layer in layers:
        if type(layer) is not str or not layer:
            _integer(layer, f"{where}.layers", 0, MAX_INTEGER)
    names = {*languages}
    for field in METRIC_FIELDS - {"layers", "hub_limited"}:
        expected = names | means if field == "intervals" else names
        _exactly(scores[field], f"{where}.{field}", expected)
    limited = _texts(scores["hub_limited"], f"{where}.hub_limited")
    if not {*limited} <= names | means:
        raise _error(f"{where}.hub_limited", "languages of the report", limited)
    for name, ends in scores["intervals"].items():
        _check_interval(ends, f"{where}.intervals.{name}")
    for language in languages:
        _check_language(scores, language, where, n)


def _check_language(scores: dict[str, Any], language: str, where: str, n: int) -> None:
    """One language of a metric: as many layers everywhere, counts in range, NaN everywhere."""
    size = len(scores["layers"])
    hits = _sized(scores["hits"][language], f"{where}.hits.{language}", size)
    for mask in hits:
        _check_mask(mask, f"{where}.hits.{language}", n)
    missing = [mask is None for mask in hits]
    for field in COUNTS:
        path = f"{where}.{field}.{language}"
        counts = _sized(scores[field][language], path, size)
        _integers(counts, path, 0, n)
        if [count is None for count in counts] != missing:
            raise _error(path, "null in exactly the layers in which hits is null", counts)
    for ends in _sized(scores["layer_intervals"][language], f"{where}.layer_intervals", size):
        _check_interval(ends, f"{where}.layer_intervals.{language}")
    for hub in _sized(scores["hubs"][language], f"{where}.hubs.{language}", size):
        if hub is not None:
            _check_hub(hub, f"{where}.hubs.{language}", n)
    for field in PAIR_COUNTS:
        path = f"{where}.{field}.{language}"
        counts = scores[field][language]
        if (counts is None) != any(missing):
            raise _error(path, "null if and only if a layer of hits is null", counts)
        if counts is not None:
            _check_pair_counts(counts, path, field, n, size * n)


def _check_pair_counts(counts: Any, path: str, field: str, n: int, verdicts: int) -> None:
    if field == "blockers":
        _integers(_list(counts, path), path, 0, verdicts)
        if None in counts or len(counts) > n or sum(counts) != verdicts:
            raise _error(path, f"at most {n} counts that sum to {verdicts}", counts)
        return
    least = 0 if field == "sole_blocks" else -MAX_SUM
    _integers(_sized(counts, path, n), path, least, verdicts if least == 0 else MAX_SUM)
    if None in counts:
        raise _error(path, "whole numbers", counts)


def _check_mask(mask: Any, where: str, n: int) -> None:
    """Hexadecimal digits of n bits, as many as ``to_json`` writes."""
    if mask is None:
        return
    is_hex = type(mask) is str and len(mask) == -(-n // 4) and not mask.strip(HEX_DIGITS)
    if is_hex and int(mask, 16) >> n == 0:
        return
    raise _error(where, f"{-(-n // 4)} hexadecimal digits of {n} pairs", mask)


def _check_interval(ends: Any, where: str) -> None:
    low, high = _sized(ends, where, 2)
    for end in (low, high):
        if end is not None and (type(end) not in (int, float) or not 0 <= end <= 1):
            raise _error(where, "two numbers in [0, 1]", ends)
    if low is not None and high is not None and low > high:
        raise _error(where, "a low end below the high end", ends)


def _check_hub(hub: Any, where: str, n: int) -> None:
    side, pair, *blocked = _sized(hub, where, 4)
    if side not in ("pivot", "target"):
        raise _error(where, "a hub of side pivot or target", hub)
    _integer(pair, where, 0, n - 1)
    for count in blocked:
        _integer(count, where, 0, n)


def _check_plain(value: Any, where: str) -> None:
    """Free values: finite numbers, and no deeper than ``MAX_DEPTH``."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        for number in (each for each in level if type(each) in (int, float)):
            most = math.inf if type(number) is float else MAX_INTEGER + 1
            if not -most < number < most:
                raise _error(where, "without numbers of more than 64 bits", number)
        parts = (
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        )
        level = [*chain.from_iterable(parts)]
        if not level:
            return
    raise _error(where, f"values nested at most {MAX_DEPTH} deep", level)


def _object(value: Any, where: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    if type(value) is not dict:
        raise _error(where, "a JSON object", value)
    for key in keys:
        if key not in value:
            raise ReportError(f"{where} must have the entry {key!r}, it is missing")
    return value


def _exactly(value: Any, where: str, keys: Iterable[str]) -> None:
    _object(value, where, sorted(keys))
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise _error(where, "without unknown entries", unknown)


def _list(value: Any, where: str) -> list[Any]:
    if type(value) is not list:
        raise _error(where, "a list", value)
    return value


def _sized(value: Any, where: str, size: int) -> list[Any]:
    if len(_list(value, where)) != size:
        raise _error(where, f"a list of {size} entries", value)
    return list(value)


def _text(value: Any, where: str) -> None:
    if type(value) is not str or not value:
        raise _error(where, "a text that is not empty", value)


def _texts(value: Any, where: str) -> list[str]:
    for name in _list(value, where):
        _text(name, where)
    if len({*value}) < len(value):
        raise _error(where, "names that differ", value)
    return list(value)


def _integer(value: Any, where: str, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise _error(where, f"a whole number from {least} to {most}", value)


def _integers(values: list[Any], where: str, least: int, most: int) -> None:
    """Whole numbers in a range, or None."""
    for value in values:
        if value is not None and (type(value) is not int or not least <= value <= most):
            raise _error(where, f"whole numbers from {least} to {most}", value)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    plain = dict(pairs)
    if len(plain) < len(pairs):
        raise ValueError("an object has the same key twice")
    return plain


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON, NaN is written as null")


def _error(where: str, expected: str, got: Any) -> ReportError:
    return ReportError(f"{where[:100]} must be {expected}, got {reprlib.repr(got)}")
