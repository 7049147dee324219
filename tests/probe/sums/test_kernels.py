"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled ahead of time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]
INTERPRETED = ("interpreted.py", "interpreted_routed.py")


def run(arguments, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", INTERPRETED)
def test_the_kernels_in_the_interpreter(name):
    path = Path(__file__).with_name(name)
    pytest_of_this_file = ("-m", "pytest", "-q", "-p", "no:cacheprovider", path)
    assert " passed" in run(pytest_of_this_file, TRITON_INTERPRET="1")


def test_the_kernels_compile_for_two_generations_of_gpus(tmp_path):
    script = tmp_path / "compile.py"
    script.write_text(COMPILE, encoding="utf-8")
    assert run([script], TRITON_INTERPRET="0").split() == ["80"] * 6 + ["90"] * 6


MOST_ADDED = {"dense": {"NASCA alone": (2.5, 1.5), "default": (5.5, 1.5)}}
MOST_ADDED |= {"experts": {"NASCA alone": (20, 4), "default": (30, 4)}}
"""Launches per layer and forward, and bytes over one read. What the probe adds once per forward or
per language counts more here than with the 32 layers of an 8B model."""


@pytest.mark.skipif(torch.version.cuda is None, reason="fake CUDA needs torch built with CUDA")
def test_a_probe_on_cuda_adds_few_launches_and_little_traffic():
    corpus = ("--languages", "6", "--pairs", "50")
    printed = run(
        [ROOT / "benchmarks" / "launches.py", "--shapes", "1B", *corpus], TRITON_INTERPRET="0"
    )
    rows = [line[2:].split(" | ") for line in printed.splitlines() if line.startswith("| 1B")]
    assert len(rows) == 4
    for model, kind, path, _, _, launches, _, _, traffic, _ in rows:
        most = MOST_ADDED[model.removeprefix("1B ")][kind]
        assert path == "fused"
        assert float(launches) <= most[0]
        assert float(traffic) <= most[1]


COMPILE = """
from itertools import product

import triton
from triton.backends.compiler import GPUTarget
from neuronxa_callback.probe.sums import kernels

POOL = {"states": "*bf16", "squares": "*fp64"}
POOL |= dict.fromkeys(("weights", "mask", "pooled", "sizes", "active"), "*fp32")
POOL |= dict.fromkeys(("token", "order", "starts"), "*i64")
COMPARE = {"pivot": "*fp32", "vectors": "*fp32", "dot": "*fp64"}


def compiled(kernel, types, arch, **constants):
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = triton.compiler.ASTSource(fn=kernel, signature=kinds, constexprs=values)
    assert triton.compile(source, target=GPUTarget("cuda", arch, 32)).asm["cubin"]
    print(arch)


for arch in (80, 90):
    for source, routed in product((kernels.NAS, kernels.NAV), (False, True)):
        compiled(
            kernels._pool, POOL, arch, SOURCE=source, ROWS=2, PADDED_ROWS=2,
            BLOCK=kernels.BLOCK, SIZES=True, ACTIVE=True, ROUTED=routed,
        )
    for exact in (True, False):
        compiled(
            kernels._compare, COMPARE, arch, EXACT=exact, TILE=kernels.TILE, DEPTH=kernels.DEPTH
        )
"""
