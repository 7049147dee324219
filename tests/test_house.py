"""The house: what may import what, and what an import costs."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neuronxa_callback"
SOURCES = sorted(PACKAGE.rglob("*.py"))


def imported(path):
    """The modules that a file imports, as written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_only_distributed_talks_to_other_ranks():
    assert len(SOURCES) > 30
    talking = [
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if any(name.split(".")[:2] == ["torch", "distributed"] for name in imported(path))
    ]
    assert talking == ["probe/distributed.py"]


def loaded(statement, names):
    code = f"import sys\n{statement}\nprint([n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


HEAVY = ["torch", "transformers", "wandb", "numpy", "scipy", "matplotlib", "rich", "plotly"]


def test_the_import_itself_loads_nothing_heavy():
    assert loaded("import neuronxa_callback", HEAVY) == []


def test_that_test_can_fail():
    assert "numpy" in loaded("import neuronxa_callback, numpy", HEAVY)


def test_pairs_and_reports_are_standard_library_only():
    modules = ("corpus.parallel", "report")
    for module in modules:
        assert loaded(f"import neuronxa_callback.{module}", HEAVY) == []


def test_a_probe_loads_no_tracker_and_no_transformers():
    found = loaded("from neuronxa_callback import Probe", HEAVY)
    assert {"wandb", "transformers", "matplotlib", "rich"} & set(found) == set()


def test_every_public_name_is_there():
    import neuronxa_callback

    assert len(neuronxa_callback.__all__) >= 10
    for name in neuronxa_callback.__all__:
        assert getattr(neuronxa_callback, name).__doc__
    with pytest.raises(AttributeError) as error:
        neuronxa_callback.nothing  # noqa: B018
    assert str(error.value) == "module 'neuronxa_callback' has no attribute 'nothing'"


def test_shape_annotations_hold_when_they_are_run():
    code = """
import builtins, jaxtyping
for name in ("Bool", "Float", "Int"):
    setattr(builtins, name, getattr(jaxtyping, name))
with jaxtyping.install_import_hook("neuronxa_callback.metrics.alignment", "beartype.beartype"):
    from neuronxa_callback.metrics import alignment
import torch
states = torch.randn(2, 5, 3)
counts = torch.ones(2, 5, dtype=torch.bool)
pooled = alignment.pool(alignment.active(states), alignment.positions(counts)[:, None])
squares = alignment.squares(pooled[:, 0])
c = alignment.cosines(alignment.dots(pooled[:, 0], pooled[:, 0]), squares, squares)
alignment.weakly_aligned(c[None]), alignment.retrieved(c), alignment.mutual_maxima(c[None])
alignment.holds_nan(c[None])
try:
    alignment.pool(states, counts.float())
except Exception as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Error" in done.stdout or "Violation" in done.stdout


def test_the_order_of_imports_does_not_depend_on_what_runs_have_left(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("neuronxa_callback", "examples", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "runs").mkdir()
    ruff = (sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "I", ".")
    done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
