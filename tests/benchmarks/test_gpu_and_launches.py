"""What the probe adds to a forward pass, as counts; and the GPU script, on the CPU."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MOST_ADDED = {"NASCA alone": 22, "default": 62}
"""Launches that the plain path adds per layer and forward, in a model of four layers."""
MOST_ADDED_BY_EXPERTS = {"NASCA alone": 46, "default": 104}
"""The same for a layer of experts, whatever their number."""
MOST_EXPERT_WAITS = 1
"""Times that the host waits for the device per layer of experts and forward."""


def script(name):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return SimpleNamespace(**runpy.run_path(str(BENCHMARKS / name)))


@pytest.fixture(scope="module")
def launches():
    return script("launches.py")


@pytest.fixture(scope="module")
def inputs(launches):
    return launches.inputs(2, 5)


@pytest.mark.parametrize("kind", MOST_ADDED)
def test_launches_of_a_dense_layer(launches, inputs, kind):
    cost = launches.measure("tiny", False, kind, inputs, "cpu")
    assert 0 < cost.per_layer(cost.added.total()) <= MOST_ADDED[kind]
    assert cost.waits == 0
    assert cost.bytes > cost.read > 0
    assert cost.ratio > 1


def test_fake_tensors_launch_what_real_tensors_do(launches, inputs):
    fake, real = (
        launches.measure("tiny", False, "default", inputs, "cpu", torch.float32, fake)
        for fake in (True, False)
    )
    assert fake.added.total() == pytest.approx(real.added.total(), rel=0.02)
    assert fake.bytes == pytest.approx(real.bytes, rel=0.02)


@pytest.mark.parametrize("kind", MOST_ADDED_BY_EXPERTS)
def test_launches_of_a_layer_of_experts(launches, inputs, kind):
    cost = launches.measure("tiny", True, kind, inputs, "cpu")
    assert 0 < cost.per_layer(cost.added.total()) <= MOST_ADDED_BY_EXPERTS[kind]
    assert 0 < cost.per_layer(cost.waits) <= MOST_EXPERT_WAITS
    # The states are the kernel's own: no projection is computed again.
    assert cost.added["_grouped_mm"] == 0
    # One product with the pivot per metric, layer and forward that is not the pivot's own.
    metrics = {"NASCA alone": 1, "default": 3}[kind]
    assert cost.added["mm"] == metrics * cost.layers * (cost.forwards - 1)
    # One sum of rows per read; the diagnostics add three of single numbers.
    sums = {"NASCA alone": 1, "default": 4}[kind]
    assert cost.added["_embedding_bag_forward_only"] == sums * cost.layers * cost.forwards


def test_an_indexed_operator_moves_only_its_rows(launches):
    table, rows = torch.zeros(1000, 4), torch.tensor([1, 2])
    with launches.Counts("cpu") as counted:
        table[rows]
    assert counted.bytes == 2 * (2 * 4 * 4) + rows.nbytes
    with launches.Counts("cpu") as counted:
        table[rows] = torch.ones(2, 4)
    assert counted.bytes < table.nbytes
    with launches.Counts("cpu") as counted:
        table.view(-1)[1:].unsqueeze(0)
    assert counted.launches.total() == 0


def test_the_gpu_script_runs_on_a_cpu():
    gpu = script("gpu.py")
    corpus = gpu.ParallelCorpus.builtin("dev", ("deu_Latn", "fra_Latn")).select(n_pairs=5)
    tokenizer = gpu.subjects.tokenizer_of(corpus, 400)
    setting = gpu.Setting("tiny", "cpu", corpus, tokenizer)
    text = dict(line.strip("| ").split(" | ", 1) for line in gpu.rows(setting, 1e9))
    assert text["forward and probe, bf16"].startswith("bare ")
    assert text["training, deterministic"] == "weights equal in every bit"
    assert text["torch.compile"] == "verdicts equal those of the eager model"
    assert (
        text["experts, rows of the kernel"] == "verdicts equal those of experts that run one by one"
    )
    assert text["experts, bf16"].startswith("tiny shape, 8 of 64 experts")
    fused = text["fused and plain sums, bf16"]
    assert fused == "not run: triton is not installed" or "verdicts equal: nasca, navca" in fused
    assert text["fused and plain sums of experts, bf16"] == "not run: needs CUDA"
    assert text["FSDP2 and NCCL"] == "not run: needs two GPUs"
    assert not any("FAILED" in result for result in text.values()), text


def test_parts_beyond_the_budget_are_named():
    gpu = script("gpu.py")
    times = iter((0, 1, 9))
    parts = {"one": lambda _: "done", "two": lambda _: "done"}
    lines = list(gpu.rows(None, 5, parts, lambda: next(times)))
    assert lines == ["| one | done |", "| two | not run: 5 seconds are used up |"]


def test_a_part_that_fails_is_one_line():
    gpu = script("gpu.py")

    def fails(_):
        raise ValueError("first\nsecond")

    assert list(gpu.rows(None, 5, {"one": fails}, lambda: 0)) == [
        "| one | FAILED: ValueError: first |"
    ]
