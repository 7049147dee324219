"""The Triton kernels without a GPU: run by Triton's interpreter, and compiled ahead of time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
ROOT = Path(__file__).parents[3]
INTERPRETED = Path(__file__).with_name("interpreted.py")


def run(arguments, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_kernels_in_the_interpreter():
    pytest_of_this_file = ("-m", "pytest", "-q", "-p", "no:cacheprovider", INTERPRETED)
    assert " passed" in run(pytest_of_this_file, TRITON_INTERPRET="1")


def test_the_kernels_compile_for_two_generations_of_gpus(tmp_path):
    script = tmp_path / "compile.py"
    script.write_text(COMPILE, encoding="utf-8")
    assert run([script], TRITON_INTERPRET="0").split() == ["80"] * 4 + ["90"] * 4


@pytest.mark.skipif(torch.version.cuda is None, reason="fake CUDA needs torch built with CUDA")
def test_a_probe_on_cuda_adds_few_launches_and_little_traffic():
    printed = run([ROOT / "benchmarks" / "launches.py", "--shapes", "8B"], TRITON_INTERPRET="0")
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| 8B dense")]
    (_, _, path, _, _, nasca, _, _, nasca_bytes, _), (*_, both, _, _, both_bytes, _) = rows
    assert path == "fused"
    assert float(nasca) <= 2
    assert float(both) <= 4
    assert float(nasca_bytes) <= float(both_bytes) <= 2.2


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from neuronxa_callback.probe.sums import kernels

POOL = {"states": "*bf16", "squares": "*fp64"}
POOL |= dict.fromkeys(("weights", "mask", "pooled", "sizes", "active"), "*fp32")
COMPARE = {"pivot": "*fp32", "vectors": "*fp32", "dot": "*fp64"}


def compiled(kernel, types, arch, **constants):
    names = kernel.arg_names
    kinds = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    source = triton.compiler.ASTSource(fn=kernel, signature=kinds, constexprs=values)
    assert triton.compile(source, target=GPUTarget("cuda", arch, 32)).asm["cubin"]
    print(arch)


for arch in (80, 90):
    for source in (kernels.NAS, kernels.NAV):
        compiled(
            kernels._pool, POOL, arch, SOURCE=source, ROWS=2, PADDED_ROWS=2,
            BLOCK=kernels.BLOCK, SIZES=True, ACTIVE=True,
        )
    for exact in (True, False):
        compiled(
            kernels._compare, COMPARE, arch, EXACT=exact, TILE=kernels.TILE, DEPTH=kernels.DEPTH
        )
"""
