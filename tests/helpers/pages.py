"""Runs to show on a page (rising, full of markup, very large), and parts of a page in a tab."""

import base64
import json
import math
import random
import struct
import zlib

import numpy as np
import pytest

from neuronxa_callback import AlignmentReport
from neuronxa_callback.report_schema import MEAN
from neuronxa_callback.scores import MetricScores
from tests.helpers.reports import make_report

EVIL = "<img src=x onerror=\"document.title='owned'\">"
NASTY = "a&amp;b <b>c</b> %{x} $t$ {{ title }} </script><script>document.title='owned'</script>"
LANGUAGES = ("deu_Latn", "fra_Latn", "swh_Latn", "tha_Thai")
STEPS = (0, 100, 200, 300)


def rising(seed=0, gap=True):
    """Four languages whose scores rise one after another; the last has NaN at the second step."""
    draw = np.random.default_rng(seed)
    reports = []
    for t, step in enumerate(STEPS):
        hits = {}
        for metric, ease in (("nasca", 0.9), ("navca", 0.6)):
            level = [ease * min(1, max(0, (t + 1 - k) / 3)) for k in range(len(LANGUAGES))]
            hits[metric] = {
                name: (draw.random((6, 20)) < level[k]).astype(float)
                for k, name in enumerate(LANGUAGES)
            }
        if gap and t == 1:
            hits["nasca"]["tha_Thai"][2] = math.nan
        warnings = ["tha_Thai: 1 of 6 layers of nasca hold NaN"] if gap and t == 1 else []
        if t == 3:
            warnings.append("2 pairs were dropped; the first: deu.txt:17")
        reports.append(
            make_report(
                step,
                hits=hits,
                warnings=warnings,
                run={"seconds": 1.0, "loss": 4.0 - t},
                diagnostics={
                    "activity": {name: [0.5, None, 0.25] for name in LANGUAGES},
                    "tokens": {"padding": 0.125},
                },
            )
        )
    return reports


def named(name, warnings=()):
    """A report with a given name in all its texts."""
    return make_report(
        scores={name: 0.5, "deu_Latn": 0.25},
        layers=4,
        n_pairs=20,
        warnings=[f"{name}: {EVIL}", EVIL, *warnings],
        definition={name: EVIL},
        model={"class": name},
        diagnostics={name: {name: [1.0, 2.0], "deu_Latn": [0.0, 1.0]}, "text": EVIL},
    )


def large(languages=40, layers=80, probes=200, n=100):
    """A run of the largest size, with noisy counts and a warning per language and probe."""
    draw, rng = random.Random(0), np.random.default_rng(0)
    names = tuple(f"l{k:02d}_Latn" for k in range(languages))
    reports = []
    for t in range(probes):
        metrics = {}
        for metric in ("nasca", "navca"):
            top = 1 + n * (t + 5) // (probes + 5)
            rows = rng.integers(0, top, size=(languages, layers))
            counts = {name: tuple(map(int, row)) for name, row in zip(names, rows, strict=True)}
            intervals = {
                name: (row.mean() / n - 0.05 * rng.random(), row.mean() / n + 0.05 * rng.random())
                for name, row in zip((*names, MEAN), (*rows, rows), strict=True)
            }
            hits = {name: tuple((1 << k) - 1 for k in row) for name, row in counts.items()}
            layer = tuple(range(layers))
            ends = [tuple((max(0, k / n - 0.1), min(1, k / n + 0.1)) for k in row) for row in rows]
            zeros = dict.fromkeys(names, (0,) * n)
            metrics[metric] = MetricScores(
                layer,
                hits,
                counts,
                counts,
                counts,
                intervals,
                layer_intervals=dict(zip(names, ends, strict=True)),
                sole_blocks=zeros,
                second_differences=zeros,
                blockers=zeros,
                hubs=dict.fromkeys(names, (None,) * layers),
            )
        report = AlignmentReport(
            step=500 * t,
            pivot="eng_Latn",
            languages=names,
            n_pairs=n,
            metrics=metrics,
            fingerprint={"definition": {"n_pairs": n}, "model": {}, "environment": {}},
            diagnostics={"activity": {name: rng.random(layers).tolist() for name in names}},
            warnings=tuple(f"{x}: one token makes {draw.randint(50, 99)}%" for x in names),
            run={"loss": 3 + 5 * math.exp(-t / 30)},
        )
        reports.append(report)
    return reports


def gaps(numbers):
    """Numbers to compare with those of the page: approximate, None for NaN."""
    return [None if math.isnan(x) else pytest.approx(x) for x in numbers]


def shown_step(tab, step):
    """Wait until the page shows a step."""
    tab.wait(f"document.documentElement.dataset.drawnStep === '{step}'")


def curves(tab):
    """name -> y of the lines of the second chart, without the chance line."""
    return dict(
        tab.value("[...document.querySelector('#curve').data].slice(1).map((t) => [t.name, t.y])")
    )


def codes(tab):
    """The language codes in the table, from top to bottom."""
    return tab.value("[...document.querySelectorAll('#table tbody bdi')].map(e => e.textContent)"
                     ".filter(e => neuronxa.order.has(e))")  # fmt: skip


def unpacked(text):
    """The JSON of a page and the bytes behind it."""
    start = text.index('id="data">') + len('id="data">')
    packed = json.loads(text[start : text.index("</script>", start)])["zlib"]
    raw = zlib.decompress(base64.b64decode(packed))
    (size,) = struct.unpack("<I", raw[:4])
    return json.loads(raw[4 : 4 + size]), raw[4 + size :]


def array(entry, raw):
    """A packed array."""
    count = math.prod(entry["shape"])
    values = np.frombuffer(raw, dtype=f"<{entry['type']}", count=count, offset=entry["offset"])
    return values.reshape(entry["shape"])


def unpacked_page(text):
    """The JSON of a page, and a function from a packed array's entry to its numbers."""
    plain, raw = unpacked(text)
    return plain, lambda entry: array(entry, raw)
