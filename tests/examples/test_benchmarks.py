"""Every benchmark runs at a small size and prints its figures. Its times are not looked at."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SMALL = {
    "balance": ("--batch-tokens", "4096"),
    "capture": ("--models", "Llama 25M", "--languages", "1", "--rounds", "1"),
    "check": ("2", "50"),
    "contamination": ("--megabytes", "1", "--rounds", "1"),
    "forward": ("--shape", "tiny", "--rounds", "1", "--kinds", "nasca"),
    "growth": ("--sweeps", "layers", "--rounds", "1"),
    "imports": ("--rounds", "1"),
    "intervals": ("--draws", "4"),
    "memory": ("--sizes", "4", "--kinds"),
    "mexa_way": ("--shape", "tiny", "--languages", "1", "--rounds", "1"),
    "share": ("--steps", "2"),
    "stopping": ("--runs", "1"),
}
SHARED = {"subjects"}
FIGURES = r"^\|(---\|)+$\n\|.*\d.*\|$|\d CPU seconds"
"""A Markdown table with numbers, or a line with a figure."""


def test_every_benchmark_has_a_small_size():
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SMALL, *SHARED}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_it_prints_its_figures(name, tmp_path):
    paths = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{name}.py"), *SMALL[name]],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(FIGURES, done.stdout, re.MULTILINE), done.stdout
