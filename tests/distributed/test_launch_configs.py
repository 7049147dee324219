"""Launchers accept every launch file; those that need no GPU start two ranks."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.deepspeed import HfDeepSpeedConfig
from accelerate.utils.launch import prepare_multi_gpu_env

from neuronxa_callback.history import read_reports
from tests.helpers.launch import kill

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "launch").iterdir())
LOOP = ("examples/accelerate_loop.py", "--cpu", "--steps", "1", "--every", "1", "--out")


def test_every_file_is_tested():
    names = ["ddp.yaml", "fsdp2.yaml", "slurm.sbatch", "torchrun.sh", "zero3.json", "zero3.yaml"]
    assert [file.name for file in FILES] == names


@pytest.mark.parametrize(
    ("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP"), ("zero3", "DEEPSPEED")]
)
def test_accelerate_reads_the_file(name, kind):
    config = load_config_from_file(str(ROOT / "configs" / "launch" / f"{name}.yaml"))
    assert config.distributed_type == kind
    assert config.num_processes == 8


def parsed_options(name):
    """The options that ``accelerate launch`` reads from a file."""
    path = str(ROOT / "configs" / "launch" / f"{name}.yaml")
    parsed = launch_command_parser().parse_args(["--config_file", path, "train.py"])
    return _validate_launch_command(parsed)[0]


def test_fsdp2_yaml_selects_fsdp2(monkeypatch):
    options = parsed_options("fsdp2")
    assert options.use_fsdp
    for key, value in prepare_multi_gpu_env(options).items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True


def test_zero3_yaml_selects_stage_3(monkeypatch):
    monkeypatch.chdir(ROOT)
    options = parsed_options("zero3")
    assert options.use_deepspeed
    assert options.zero3_init_flag
    config = HfDeepSpeedConfig(json.loads(Path(options.deepspeed_config_file).read_text()))
    assert config.is_zero3()
    assert config.get_value("train_micro_batch_size_per_gpu") == "auto"


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sbatch"])
def test_the_shell_script_has_no_syntax_error(name):
    file = ROOT / "configs" / "launch" / name
    subprocess.run(["bash", "-n", str(file)], check=True)
    assert os.access(file, os.X_OK)


def environment(**more):
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONHASHSEED", "RANK")}
    tools = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    base = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "PATH": tools}
    return kept | base | more


def start(*command, **more):
    return subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def wait_for(*jobs, seconds=150):
    try:
        outputs = [job.communicate(timeout=seconds)[0] for job in jobs]
    finally:
        for job in jobs:
            kill(job)
    assert [job.returncode for job in jobs] == [0] * len(jobs), "\n".join(outputs)[-3000:]


def free_port():
    with socket.socket() as free:
        free.bind(("", 0))
        return str(free.getsockname()[1])


def ranks_of(folder):
    """The number of ranks of each report."""
    return [report.run["ranks"] for report in read_reports(folder / "reports.jsonl")]


@pytest.mark.distributed
def test_accelerate_starts_two_ranks(tmp_path):
    launch = (sys.executable, "-m", "accelerate.commands.launch", "--config_file")
    options = ("configs/launch/ddp.yaml", "--num_processes", "2", "--mixed_precision", "no")
    options += ("--main_process_port", free_port())
    wait_for(start(*launch, *options, *LOOP, tmp_path))
    assert ranks_of(tmp_path) == [2, 2]


@pytest.mark.distributed
def test_torchrun_starts_two_ranks_on_one_node(tmp_path):
    wait_for(start("configs/launch/torchrun.sh", *LOOP, tmp_path, RANKS="2"))
    assert ranks_of(tmp_path) == [2, 2]


@pytest.mark.distributed
def test_torchrun_starts_one_rank_on_each_of_two_nodes(tmp_path):
    more = {"NODES": "2", "HEAD": "localhost", "RANKS": "1", "PORT": free_port()}
    jobs = [start("configs/launch/torchrun.sh", *LOOP, tmp_path, **more) for _ in range(2)]
    wait_for(*jobs)
    assert ranks_of(tmp_path) == [2, 2]


@pytest.mark.distributed
def test_the_slurm_script_starts_the_ranks_of_its_node(tmp_path):
    """One node, with stand-ins for the two commands of SLURM that it calls."""
    stand_ins = {
        "scontrol": 'echo "$3"',
        "srun": 'test "$1" = --kill-on-bad-exit=1; shift; SLURM_NODEID=0 exec "$@"',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\nset -e\n{body}\n")
        (tmp_path / name).chmod(0o755)
    tools = os.pathsep.join((str(tmp_path), environment()["PATH"]))
    slurm = {"SLURM_NNODES": "1", "SLURM_JOB_NODELIST": "localhost", "RANKS": "2"}
    script = ("configs/launch/slurm.sbatch", *LOOP, tmp_path / "out")
    wait_for(start(*script, PATH=tools, PORT=free_port(), ACCELERATE_MIXED_PRECISION="no", **slurm))
    assert ranks_of(tmp_path / "out") == [2, 2]
