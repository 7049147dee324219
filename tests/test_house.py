"""The rules of the source tree: imports, sizes, and no clock in tests."""

import ast
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "neuronxa_callback"
TESTS = ROOT / "tests"
SOURCES = sorted(PACKAGE.rglob("*.py"))
TEST_SOURCES = sorted(TESTS.rglob("*.py"))
HEAVY = ["torch", "transformers", "wandb", "numpy", "scipy", "matplotlib", "rich", "plotly"]
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time", "time_ns"}
WATCHDOGS = {"helpers/browser.py"}
"""These wait with a time limit, so that a hanging part fails instead of blocking the tests."""


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_of(path):
    """(module, name or None) of every import in a file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def clocks_in(source):
    """Calls of a clock: ``time.monotonic()``, or a name imported from ``time``."""
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if alias.name in CLOCKS
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = node.func
        if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
            if call.value.id == "time" and call.attr in CLOCKS:
                yield f"line {node.lineno}: time.{call.attr}"
        elif isinstance(call, ast.Name) and call.id in imported:
            yield f"line {node.lineno}: {call.id}"


def modules_loaded(statement):
    code = f"import sys\n{statement}\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


def test_only_distributed_imports_torch_distributed():
    assert len(SOURCES) > 60
    users = [
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        if any(module.split(".")[:2] == ["torch", "distributed"] for module, _ in imports_of(path))
    ]
    assert users == ["probe/distributed.py"]


def test_importing_the_package_loads_nothing_heavy():
    assert modules_loaded("import neuronxa_callback") == []


def test_the_test_of_loaded_modules_can_fail():
    assert "numpy" in modules_loaded("import neuronxa_callback, numpy")


@pytest.mark.parametrize("module", ["corpus.parallel", "report", "scores", "errors"])
def test_plain_values_are_standard_library_only(module):
    assert modules_loaded(f"import neuronxa_callback.{module}") == []


def test_a_probe_loads_no_tracker_and_no_transformers():
    loaded = modules_loaded("from neuronxa_callback import Probe")
    assert {"wandb", "transformers", "matplotlib", "rich"} & set(loaded) == set()


def test_taps_can_be_used_alone():
    ours = {
        module
        for path in sorted((PACKAGE / "taps").glob("*.py"))
        for module, _ in imports_of(path)
        if module.startswith("neuronxa_callback")
    }
    assert all(
        module == "neuronxa_callback.errors" or module.startswith("neuronxa_callback.taps")
        for module in ours
    )
    assert len(ours) > 5


def test_no_file_is_longer_than_300_lines():
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (*SOURCES, *TEST_SOURCES)
    }
    assert len(lengths) > 120
    assert {path: lines for path, lines in lengths.items() if lines > 300} == {}


def test_a_function_over_60_lines_gives_its_reason():
    long, seen = [], 0
    for path in SOURCES:
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                seen += 1
                first = lines[node.lineno - 1]
                if node.end_lineno - node.lineno >= 60 and "# long:" not in first:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert seen > 500
    assert long == []


def test_no_folder_has_more_than_18_files():
    counts = Counter(path.parent.relative_to(ROOT) for path in (*SOURCES, *TEST_SOURCES))
    assert len(counts) > 15
    assert {str(folder): n for folder, n in counts.items() if n > 18} == {}


def test_no_test_calls_a_clock():
    assert len(TEST_SOURCES) > 60
    found = {}
    for path in TEST_SOURCES:
        name = path.relative_to(TESTS).as_posix()
        if name not in WATCHDOGS and (calls := list(clocks_in(path.read_text(encoding="utf-8")))):
            found[name] = calls
    assert found == {}


def test_the_search_for_clocks_can_fail():
    assert list(clocks_in("import time\nbegan = time.monotonic()")) == ["line 2: time.monotonic"]
    assert list(clocks_in("from time import time as now\nnow()")) == ["line 2: now"]
    assert list(clocks_in("import time\ntime.sleep(1)")) == []


def test_no_test_imports_a_test_or_a_worker():
    wrong = [
        f"{path.relative_to(TESTS)}: {module} {name or ''}"
        for path in TEST_SOURCES
        for module, name in imports_of(path)
        if module.startswith("tests") and not module.startswith("tests.helpers")
        if (module, name) != ("tests", "helpers")
    ]
    assert wrong == []


def test_shape_annotations_hold_at_run_time():
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


def test_import_order_does_not_depend_on_what_runs_have_left(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("neuronxa_callback", "examples", "benchmarks", "tests"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "runs").mkdir()
    ruff = (sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "I", ".")
    done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
