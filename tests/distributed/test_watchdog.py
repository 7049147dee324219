"""The time limit of the rank tests: a job that hangs is killed and shown."""

import psutil
import pytest

from tests.helpers.launch import launch

pytestmark = pytest.mark.distributed

STUCK = """
import os, sys, time
# In one piece: the launcher may read between two.
os.write(1, f"rank {os.environ['RANK']} waits {os.getpid()}\\n".encode())
open(sys.argv[1] + "/" + os.environ["RANK"], "w").write(str(os.getpid()))
time.sleep(600)
"""


def test_a_hanging_job_is_killed_with_its_ranks_and_its_last_lines_are_shown(tmp_path):
    (tmp_path / "stuck.py").write_text(STUCK)
    with pytest.raises(pytest.fail.Exception) as error:
        launch(tmp_path / "stuck.py", tmp_path, ranks=2, folder=tmp_path / "job", seconds=30)
    assert "no end after 30 s" in str(error.value)
    for rank in (0, 1):
        assert f"rank {rank} waits" in str(error.value)
        process = int((tmp_path / str(rank)).read_text())
        assert gone(process)


def gone(process):
    try:
        return psutil.Process(process).status() == "zombie"
    except psutil.NoSuchProcess:
        return True
