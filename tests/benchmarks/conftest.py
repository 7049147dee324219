"""The modules of ``benchmarks/real_model``."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks" / "real_model"
NAMES = [path.stem for path in sorted(FOLDER.glob("*.py")) if path.stem != "__main__"]


@pytest.fixture(scope="module")
def real():
    """The modules by name; none is left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            sys.modules.pop(name, None)
