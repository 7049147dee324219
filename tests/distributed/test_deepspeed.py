"""DeepSpeed's ZeRO, a real engine on CPU: the report of whole weights, and the same training."""

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest

from tests.helpers.launch import ROOT, WORKERS, launch

BESIDE = ROOT / ".deepspeed"
"""Where ``make test-all`` puts it: seen by the ranks of these tests alone."""
SHARED = Path("/dev/shm")

pytestmark = [
    pytest.mark.distributed,
    pytest.mark.skipif(
        importlib.util.find_spec("deepspeed") is None and not (BESIDE / "deepspeed").is_dir(),
        reason="deepspeed is not installed (`make .deepspeed`)",
    ),
    pytest.mark.skipif(
        shutil.which("g++") is None,
        reason="deepspeed builds its collectives with g++, which is not here",
    ),
    pytest.mark.skipif(
        shutil.disk_usage(SHARED).free < 2**28 if SHARED.is_dir() else True,
        reason=f"deepspeed's ranks need 256 MB of {SHARED}",
    ),
]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_gives_the_same_report_and_training_goes_on_as_without(stage, tmp_path):
    script = WORKERS / "zero.py"
    places = (BESIDE, ROOT)
    path = os.pathsep.join((str(BESIDE / "bin"), os.environ["PATH"]))
    cpu = {"DS_ACCELERATOR": "cpu", "PATH": path, "PYTHONPATH": os.pathsep.join(map(str, places))}
    done = launch(script, stage, tmp_path, ranks=2, folder=tmp_path, seconds=500, more=cpu)
    assert done.code == 0, done.output[-4000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for found in (first, second):
        probed, calm = found["with"], found["without"]
        assert probed["sharded"] == (stage == 3)
        assert probed["reports"][0] == found["before"]
        assert len(dict.fromkeys(probed["reports"])) == 3
        assert probed["losses"] == calm["losses"]
        assert probed["weights"] == calm["weights"]
    assert first["with"]["reports"] == second["with"]["reports"]
