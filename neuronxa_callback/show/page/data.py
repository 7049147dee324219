"""The data of the page: arrays of counts and numbers as bytes, the rest as JSON, zlib over both.

Scores are packed as counts of aligned pairs, one byte each for up to 254 pairs. Layout, which
``data.js`` reads: the length of the JSON (4 bytes), the JSON (padded to 4 bytes), the arrays.
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

from neuronxa_callback.corpus import languages
from neuronxa_callback.errors import ConfigError, FingerprintError
from neuronxa_callback.history.comparison import check_same_fingerprint
from neuronxa_callback.history.points import Point, change
from neuronxa_callback.metrics import statistics
from neuronxa_callback.report import AlignmentReport
from neuronxa_callback.scores import without_nan
from neuronxa_callback.show import palette

Runs = Mapping[str, Sequence[AlignmentReport]]
"""name -> the reports of a run, sorted by step."""

COLUMNS = (
    "low", "high", "pivot_to_target", "target_to_pivot", "shuffled_baseline",
    "change", "change_low", "change_high", "p",
)  # fmt: skip
"""The numbers of each language at each step; ``change`` is paired, since the first report."""


class Packer:
    """Collects arrays as bytes, one after another."""

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.size = 0

    def put(self, array: NDArray[Any]) -> dict[str, Any]:
        """Append an array.

        Returns:
            Its ``offset`` in bytes, ``type`` such as ``"f4"``, and ``shape``.
        """
        padding = bytes(-array.nbytes % 4)
        entry = {"offset": self.size, "type": array.dtype.str[1:], "shape": list(array.shape)}
        self.parts += [np.ascontiguousarray(array).data, padding]
        self.size += array.nbytes + len(padding)
        return entry

    def finish(self, plain: Mapping[str, Any]) -> str:
        """The JSON and all arrays, compressed, in base64."""
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, default=str).encode()
        text += b" " * (-len(text) % 4)
        packed = zlib.compressobj(9)
        parts = (struct.pack("<I", len(text)), text, *self.parts)
        whole = b"".join([*map(packed.compress, parts), packed.flush()])
        return base64.b64encode(whole).decode("ascii")


def pack(runs: Runs, notes: Sequence[str]) -> str:
    """The data of the page in base64.

    Args:
        runs: The runs to show.
        notes: Sentences to show at the top; notes on differences between runs are appended.

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
    codes = dict.fromkeys(code for reports in runs.values() for code in reports[0].languages)
    plain = {
        "columns": COLUMNS,
        "palette": {"light": palette.LIGHT, "dark": palette.DARK},
        "names": {code: languages.name(code) for code in codes},
        "runs": [_run(packer, name, reports) for name, reports in runs.items()],
        "notes": [*notes, *_differences(runs)],
    }
    return packer.finish(plain)


class _Curves:
    """The arrays of one run, filled by one report after another: a large run is read once."""

    def __init__(self, first: AlignmentReport, steps: int) -> None:
        self.first, self.point, self.filled = first, Point.of(first), 0
        self.missing = missing = _missing(first.n_pairs)
        kind = np.min_scalar_type(missing)
        size = steps, len(first.languages)
        layers = {metric: len(first.layers(metric)) for metric in first.metrics}
        self.counts = {m: np.empty((*size, k), kind) for m, k in layers.items()}
        self.ends = {m: np.empty((*size, k, 2), "<u1") for m, k in layers.items()}
        shape = steps, size[1] + 1, len(COLUMNS)
        self.numbers = {metric: np.empty(shape, "<f4") for metric in layers}

    def add(self, report: AlignmentReport) -> None:
        """Fill the row of the next report."""
        point = self.point if self.filled == 0 else Point.of(report)
        for metric in self.counts:
            self.counts[metric][self.filled] = counts(report, metric, self.missing)
            self.ends[metric][self.filled] = layer_intervals(report, metric)
            self.numbers[metric][self.filled] = numbers(report, self.point, point, metric)
        self.filled += 1


def _run(packer: Packer, name: str, reports: Sequence[AlignmentReport]) -> dict[str, Any]:
    first = last = reports[0]
    curves = _Curves(first, len(reports))
    per_step: dict[str, list[Any]] = {"steps": [], "losses": [], "loss_steps": []}
    warnings: dict[str, Any] = {"texts": {}, "by_step": []}
    for last in reports:
        check_same_fingerprint(first.fingerprint, last.fingerprint, ("definition", "model"))
        curves.add(last)
        per_step["steps"].append(last.step)
        per_step["losses"].append(_loss(last))
        per_step["loss_steps"].append(loss_step(last))
        texts = warnings["texts"]
        warnings["by_step"].append([texts.setdefault(w, len(texts)) for w in last.warnings])
    return {
        "name": name,
        "pivot": first.pivot,
        "pairs": first.n_pairs,
        "chance": first.chance,
        "languages": first.languages,
        **per_step,
        "metrics": {
            metric: {
                "layers": [str(layer) for layer in first.layers(metric)],
                "counts": packer.put(curves.counts[metric]),
                "layer_intervals": packer.put(curves.ends[metric]),
                "numbers": packer.put(curves.numbers[metric]),
            }
            for metric in first.metrics
        },
        "warnings": {**warnings, "texts": list(warnings["texts"])},
        "diagnostics": without_nan(last.diagnostics),
        "fingerprint": without_nan(last.fingerprint),
        "run": without_nan(last.run),
    }


def _missing(pairs: int) -> int:
    """The largest number of the type of counts, which means NaN."""
    kind = "<u1" if pairs < 2**8 - 1 else "<u2" if pairs < 2**16 - 1 else "<u4"
    return int(np.iinfo(kind).max)


def counts(report: AlignmentReport, metric: str, missing: int) -> list[list[int]]:
    """Aligned pairs [languages, layers] of a report."""
    hits = report.metrics[metric].hits
    return [
        [missing if mask is None else mask.bit_count() for mask in hits[language]]
        for language in report.languages
    ]


def layer_intervals(report: AlignmentReport, metric: str) -> NDArray[Any]:
    """Ends of the intervals of layers [languages, layers, 2], in 1/250; 255 means NaN."""
    known = report.metrics[metric].layer_intervals
    ends = np.array([known[name] for name in report.languages])
    return np.where(np.isnan(ends), 255, np.round(np.nan_to_num(ends) * 250)).astype("<u1")


def numbers(
    report: AlignmentReport, first: Point, point: Point, metric: str
) -> list[tuple[float, ...]]:
    """The numbers [languages and the mean, ``COLUMNS``] of a report; NaN if unknown."""
    changes = _changes(first, point, metric, report.languages)
    names = (*report.languages, None)
    return [
        (
            *report.interval(metric, name),
            *report.retrieval(metric, name),
            report.shuffled_baseline(metric, name),
            *change_numbers,
        )
        for name, change_numbers in zip(names, changes, strict=True)
    ]


def _changes(
    first: Point, point: Point, metric: str, codes: Sequence[str]
) -> list[tuple[float, float, float, float]]:
    """(change, low, high, p) since the first point, per language and of the mean.

    p is adjusted by Holm over languages; the mean is a test of its own. NaN for the first point.
    """
    if point is first:
        return [(math.nan,) * 4] * (len(codes) + 1)
    changes = [change(first, point, metric, (code,)) for code in codes]
    mean = change(first, point, metric)
    adjusted = [*statistics.holm([one.p for one in changes]), mean.p]
    return [
        (one.difference, one.low, one.high, p)
        for one, p in zip((*changes, mean), adjusted, strict=True)
    ]


def _loss(report: AlignmentReport) -> float | None:
    loss = report.run.get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


def loss_step(report: AlignmentReport) -> int:
    """The step at which the loss was logged, which may be before the step of the report."""
    step = report.run.get("loss_step")
    return step if isinstance(step, int) else report.step


def _differences(runs: Runs) -> Iterable[str]:
    """One sentence for each run that does not measure the same thing as the first one."""
    names = list(runs)
    definitions = [
        without_nan(reports[0].fingerprint.get("definition", {})) for reports in runs.values()
    ]
    for name, definition in zip(names[1:], definitions[1:], strict=True):
        keys = dict.fromkeys((*definitions[0], *definition))
        different = [key for key in keys if _differs(definitions[0], definition, key)]
        if different:
            yield (
                f"{names[0]} and {name} do not measure the same thing, so their scores are not"
                f" comparable (different: {', '.join(different)})"
            )


def _differs(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Whether an entry differs; the name of a corpus may differ if its digest does not."""
    keys = (key, "digest") if one.get("digest") == other.get("digest") else (key,)
    a, b = ({k: parts[k] for k in keys if k in parts} for parts in (one, other))
    try:
        check_same_fingerprint({"definition": a}, {"definition": b}, ("definition",))
    except FingerprintError:
        return True
    return False
