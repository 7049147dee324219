"""Starts ``torchrun`` with a time limit; kills a job that hangs and shows its last lines."""

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
WORKERS = ROOT / "tests" / "workers"
DEEPSPEED = ROOT / ".deepspeed"
"""Where ``make test-all`` puts it: seen by the ranks of these tests alone."""
TORCHAO = ROOT / ".torchao"
"""The same for torchao: transformers imports it wherever it finds it."""
TORCHAO_ON_PATH = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, TORCHAO)))}
SHARED = Path("/dev/shm")
DEEPSPEED_ON_CPU = {
    "DS_ACCELERATOR": "cpu",
    "PATH": os.pathsep.join((str(DEEPSPEED / "bin"), os.environ["PATH"])),
    "PYTHONPATH": os.pathsep.join(map(str, (DEEPSPEED, ROOT))),
}
"""Environment variables of a job with DeepSpeed."""


@dataclass(frozen=True)
class JobResult:
    """Exit code and output of a job; each line begins with ``[default<rank>]:``."""

    code: int
    output: str

    def lines(self, rank):
        mark = f"[default{rank}]:"
        return [line.removeprefix(mark) for line in self.output.splitlines() if mark in line]


def launch(script, *arguments, ranks, folder, seconds=150, python=sys.executable, more=None):
    """A job of ``ranks`` processes; fails the test if it takes more than ``seconds``."""
    folder.mkdir(parents=True, exist_ok=True)
    # Never PYTHONHASHSEED: it would hide an order that differs between ranks.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONHASHSEED"}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    } | (more or {})
    command = [
        *(python, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"),
        *("--tee", "3", "--log-dir", str(folder / "logs"), str(script), *map(str, arguments)),
    ]
    with (folder / "output.txt").open("w+", encoding="utf-8") as output:
        job = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            job.wait(seconds)
        except subprocess.TimeoutExpired:
            kill(job)
            output.seek(0)
            pytest.fail(
                f"no end after {seconds} s; the last lines:\n{_tails(output.read(), ranks)}"
            )
        finally:
            kill(job)
        output.seek(0)
        return JobResult(job.returncode, output.read())


def kill(job):
    """The job and its ranks, each of which is a session of its own."""
    try:
        root = psutil.Process(job.pid)
    except psutil.NoSuchProcess:
        return
    children = root.children(recursive=True)
    for process in (*children, root):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    job.wait()
    psutil.wait_procs(children, timeout=10)


def _tails(output, ranks, count=12):
    done = JobResult(0, output)
    return "\n".join(
        line for rank in range(ranks) for line in (f"-- rank {rank}", *done.lines(rank)[-count:])
    )


def needs_torchao(test):
    """Skips a test where torchao cannot run."""
    missing = importlib.util.find_spec("torchao") is None and not (TORCHAO / "torchao").is_dir()
    return pytest.mark.skipif(missing, reason="torchao is not installed (`make .torchao`)")(test)


def needs_deepspeed(test):
    """Skips a test where DeepSpeed cannot run."""
    for reason, missing in (
        (
            "deepspeed is not installed (`make .deepspeed`)",
            importlib.util.find_spec("deepspeed") is None
            and not (DEEPSPEED / "deepspeed").is_dir(),
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
