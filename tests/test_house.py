"""The rules of the source tree: imports, sizes, the map of files, and no clock in tests."""

import ast
import re
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
SCRIPTS = sorted(path for name in ("benchmarks", "examples") for path in (ROOT / name).glob("*.py"))
EVERY_SOURCE = (*SOURCES, *TEST_SOURCES, *SCRIPTS)
HEAVY = ["torch", "transformers", "wandb", "numpy", "scipy", "matplotlib", "rich", "plotly"]
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}
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
    """Lines that use a clock: a function of ``time`` that reads one, or ``timeit``."""
    nodes = list(ast.walk(ast.parse(source)))
    modules = {
        alias.asname or alias.name
        for node in nodes
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "time"
    }
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in modules:
                if attr in CLOCKS:
                    yield f"line {node.lineno}: time.{attr}"
            case ast.ImportFrom(module="time", names=names):
                for alias in names:
                    if alias.name in CLOCKS:
                        yield f"line {node.lineno}: time.{alias.name}"
            case ast.Import(names=[ast.alias(name="timeit")]) | ast.ImportFrom(module="timeit"):
                yield f"line {node.lineno}: timeit"


def long_functions(source):
    """Functions over 60 lines without a comment ``# long: <reason>`` on the line of ``def``."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            is_long = node.end_lineno - node.lineno >= 60
            if is_long and not re.search(r"# long: \w", lines[node.lineno - 1]):
                yield f"line {node.lineno}: {node.name}"


def modules_loaded(statement):
    code = f"import sys\n{statement}\nprint([n for n in {HEAVY!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return ast.literal_eval(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("external", "user"),
    [("torch.distributed", "probe/distributed/"), ("torch.utils.tensorboard", "show/sinks.py")],
)
def test_one_place_imports_it(external, user):
    """The rest of the contracts is in ``pyproject.toml``, where torch is one module."""
    assert len(SOURCES) > 60
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in SOURCES
        for module, name in imports_of(path)
        if f"{module}.{name or ''}.".startswith(f"{external}.")
    }
    assert users
    assert all(path.startswith(user) for path in users)


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
        for path in EVERY_SOURCE
    }
    assert len(lengths) > 120
    assert {path: lines for path, lines in lengths.items() if lines > 300} == {}


def test_a_function_over_60_lines_gives_its_reason():
    found = {
        path.relative_to(ROOT).as_posix(): long
        for path in EVERY_SOURCE
        if (long := list(long_functions(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_the_search_for_long_functions_can_fail():
    body = "\n    pass" * 60
    assert list(long_functions(f"def run():{body}")) == ["line 1: run"]
    assert list(long_functions(f"async def run():  # long:{body}")) == ["line 1: run"]
    assert list(long_functions(f"def run():  # long: a table{body}")) == []
    assert list(long_functions("def run():" + "\n    pass" * 59)) == []


def test_no_folder_has_more_than_18_files():
    counts = Counter(path.parent.relative_to(ROOT) for path in EVERY_SOURCE)
    assert len(counts) > 15
    assert {str(folder): n for folder, n in counts.items() if n > 18} == {}


def test_the_map_in_contributing_names_every_file():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```\n(neuronxa_callback/\n.*?)```", text, re.DOTALL)
    listed, folder = [], ""
    for line in filter(None, tree.splitlines()[1:]):
        name = line.split()[0]
        if name.endswith("/"):
            folder = name
        elif name.endswith(".py"):
            listed.append(name if line.startswith("  ") and line[2] != " " else folder + name)
    modules = [path.relative_to(PACKAGE).as_posix() for path in SOURCES]
    assert sorted(listed) == [name for name in modules if not Path(name).name.startswith("_")]


def test_the_questions_in_contributing_name_files():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    files = re.findall(r"`([a-z_/]+\.py)`", text)
    assert len(files) > 20
    assert [name for name in files if not any((r / name).exists() for r in (ROOT, PACKAGE))] == []


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
    assert list(clocks_in("import time as t\nclock = t.time_ns")) == ["line 2: time.time_ns"]
    assert list(clocks_in("from time import time as now")) == ["line 1: time.time"]
    assert list(clocks_in("import timeit")) == ["line 1: timeit"]
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
