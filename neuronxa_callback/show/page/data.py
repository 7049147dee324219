"""What the page shows, packed: counts and numbers as bytes, everything else as JSON, zlib on all.

A score is a count of n pairs, so that it takes one byte. The page's scripts unpack the same
layout: 4 bytes that hold the length of the JSON, the JSON (padded to 4 bytes), the arrays.
"""

import base64
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuronxa_callback.corpus import languages as codes
from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.report import AlignmentReport

Runs = Mapping[str, Sequence[AlignmentReport]]

COLUMNS = (
    "low", "high", "pivot_to_target", "target_to_pivot", "shuffled_baseline",
    "change", "change_low", "change_high", "p",
)  # fmt: skip
"""Of each language at each step, in this order; ``change`` is the paired one since the first."""


class Packer:
    """Arrays one after another, each named by where it starts."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def put(self, array: NDArray[Any]) -> dict[str, Any]:
        """Append an array; what its reader needs to know."""
        raw = array.tobytes()
        raw += b"\0" * (-len(raw) % 4)
        place = {"at": self.size, "type": array.dtype.str[1:], "shape": list(array.shape)}
        self.parts.append(raw)
        self.size += len(raw)
        return place

    def finish(self, plain: Mapping[str, Any]) -> str:
        """All of it as one base64 text."""
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, default=str).encode()
        text += b" " * (-len(text) % 4)
        whole = b"".join((struct.pack("<I", len(text)), text, *self.parts))
        return base64.b64encode(zlib.compress(whole, 9)).decode("ascii")


def pack(runs: Runs, notes: Sequence[str]) -> str:
    """The page's data.

    Raises:
        ConfigError: If there is no run, or one without reports.
        FingerprintError: If the reports of one run do not measure the same thing.
    """
    if not runs:
        raise ConfigError("a page needs at least one run, got none")
    for name, reports in runs.items():
        if not reports:
            raise ConfigError(f"every run on a page needs at least one report, {name!r} has none")
    packer = Packer()
    known = dict.fromkeys(code for each in runs.values() for code in each[0].languages)
    plain = {
        "columns": COLUMNS,
        "names": {code: codes.name(code) for code in known},
        "runs": [_run(packer, name, reports) for name, reports in runs.items()],
        "notes": [*notes, *_differences(runs)],
    }
    return packer.finish(plain)


def _run(packer: Packer, name: str, reports: Sequence[AlignmentReport]) -> dict[str, Any]:
    first, last = reports[0], reports[-1]
    for report in reports[1:]:
        check_same_fingerprint(first.fingerprint, report.fingerprint, ("definition", "model"))
    points = [Point.of(report) for report in reports]
    return {
        "name": name,
        "pivot": first.pivot,
        "pairs": first.n_pairs,
        "chance": first.chance,
        "languages": first.languages,
        "layer_intervals": without_nan(first.layer_intervals),
        "steps": [report.step for report in reports],
        "losses": [_loss(report) for report in reports],
        "loss_steps": [loss_step(report) for report in reports],
        "metrics": {
            metric: {
                "layers": [str(layer) for layer in first.layers(metric)],
                "counts": packer.put(counts(reports, metric)),
                "numbers": packer.put(numbers(reports, points, metric)),
            }
            for metric in first.metrics
        },
        "warnings": _warnings(reports),
        "diagnostics": without_nan(last.diagnostics),
        "fingerprint": without_nan(last.fingerprint),
        "run": without_nan(last.run),
    }


def counts(reports: Sequence[AlignmentReport], metric: str) -> NDArray[Any]:
    """Aligned pairs [steps, languages, layers]; the type's largest number stands for NaN."""
    pairs = reports[0].n_pairs
    kind = np.dtype("<u1" if pairs < 2**8 - 1 else "<u2" if pairs < 2**16 - 1 else "<u4")
    missing = int(np.iinfo(kind).max)
    return np.array(
        [
            [
                [missing if mask is None else mask.bit_count() for mask in hits[language]]
                for language in report.languages
            ]
            for report in reports
            for hits in [report.metrics[metric].hits]
        ],
        dtype=kind,
    )


def numbers(
    reports: Sequence[AlignmentReport], points: Sequence[Point], metric: str
) -> NDArray[np.float32]:
    """``COLUMNS`` [steps, languages and their mean, columns]; NaN where unknown."""
    rows = []
    for report, point in zip(reports, points, strict=True):
        changes = _changes(points[0], point, metric, report.languages)
        names = (*report.languages, None)
        rows.append(
            [
                (
                    *report.interval(metric, name),
                    *report.retrieval(metric, name),
                    report.shuffled_baseline(metric, name),
                    *each,
                )
                for name, each in zip(names, changes, strict=True)
            ]
        )
    return np.array(rows, dtype="<f4")


def _changes(
    first: Point, point: Point, metric: str, languages: Sequence[str]
) -> list[tuple[float, float, float, float]]:
    """Paired change per language and of the mean since the first point; p by Holm over languages.

    The mean is one look of its own. The first point itself has not changed: NaN.
    """
    if point is first:
        return [(math.nan,) * 4] * (len(languages) + 1)
    found = [change(first, point, metric, (name,)) for name in languages]
    mean = change(first, point, metric)
    p = [*statistics.holm([each.p for each in found]), mean.p]
    return [
        (each.difference, each.low, each.high, q) for each, q in zip((*found, mean), p, strict=True)
    ]


def _warnings(reports: Sequence[AlignmentReport]) -> dict[str, Any]:
    """Every sentence once, and per step which of them were said."""
    texts: dict[str, int] = {}
    at = [[texts.setdefault(each, len(texts)) for each in report.warnings] for report in reports]
    return {"texts": list(texts), "at": at}


def _loss(report: AlignmentReport) -> float | None:
    loss = report.run.get("loss")
    known = isinstance(loss, int | float) and math.isfinite(loss)
    return float(loss) if known and loss is not None else None


def loss_step(report: AlignmentReport) -> int:
    """The step at which the loss was logged, which may be one before the report's."""
    step = report.run.get("loss_step")
    return step if isinstance(step, int) else report.step


def _differences(runs: Runs) -> Iterable[str]:
    """One sentence for each entry of the definition in which runs differ."""
    names = list(runs)
    definitions = [
        without_nan(reports[-1].fingerprint.get("definition", {})) for reports in runs.values()
    ]
    for name, definition in zip(names[1:], definitions[1:], strict=True):
        known = dict.fromkeys((*definitions[0], *definition))
        differ = [key for key in known if _differs(definitions[0], definition, key)]
        if differ:
            yield (
                f"{names[0]} and {name} do not measure the same thing ({', '.join(differ)} differ):"
                " their scores are not comparable"
            )


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Whether an entry differs, by the rule of a curve: the digest tells a corpus, not its name."""
    beside = ("digest",) if one.get("digest") == other.get("digest") else ()
    parts = [{name: each[name] for name in (key, *beside) if name in each} for each in (one, other)]
    try:
        check_same_fingerprint({"definition": parts[0]}, {"definition": parts[1]}, ("definition",))
    except FingerprintError:
        return True
    return False


def without_nan(value: Any) -> Any:
    """Plain JSON: tuples as lists, None for what is no finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(each) for each in value]
    return value
