"""Where DeepSpeed is, and what its jobs need on CPUs."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.launch import ROOT

BESIDE = ROOT / ".deepspeed"
"""Where ``make test-all`` puts it: seen by the ranks of these tests alone."""
SHARED = Path("/dev/shm")
CPU = {
    "DS_ACCELERATOR": "cpu",
    "PATH": os.pathsep.join((str(BESIDE / "bin"), os.environ["PATH"])),
    "PYTHONPATH": os.pathsep.join(map(str, (BESIDE, ROOT))),
}
"""Environment variables of a job."""


def needs_deepspeed(test):
    """Skips a test where DeepSpeed cannot run."""
    for reason, missing in (
        (
            "deepspeed is not installed (`make .deepspeed`)",
            importlib.util.find_spec("deepspeed") is None and not (BESIDE / "deepspeed").is_dir(),
        ),
        (
            "deepspeed builds its collectives with g++, which is not here",
            shutil.which("g++") is None,
        ),
        (
            f"deepspeed's ranks need 256 MB of {SHARED}",
            shutil.disk_usage(SHARED).free < 2**28 if SHARED.is_dir() else True,
        ),
    ):
        test = pytest.mark.skipif(missing, reason=reason)(test)
    return test
