"""Triton kernels from a text, so that it can be a wrong one; and what they are given."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import torch

from neuronxa_callback.metrics.registry import Read
from neuronxa_callback.probe.batching import Sentence, collate
from neuronxa_callback.probe.sums import fused

SOURCE = Path(fused.__file__).with_name("kernels.py")
NAS = Read("nas", ("nasca",), ("position",), activity=True)
NAV = Read("nav", ("navca", "other"), ("position", "no_special"), shares=True)


def loaded(folder, number, text):
    """A module of kernels with this text, whose operators have names of their own."""
    path = folder / f"kernels_{number}.py"
    path.write_text(text.replace('"neuronxa_callback::', f'"mutant_{number}::'), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def batch_of(lengths):
    sentences = [Sentence(tuple(range(n)), (True,) + (False,) * (n - 1)) for n in lengths]
    return collate(sentences, pad=0)


def wrong_sums(read, reduction, pivot, expected, active=True):
    """Names of the sums of kernels that differ from those of the plain path, a list of layers.

    ``pivot`` [layers, rows, sentences, width]; ``active`` says whether these are compared, too.
    """
    sums = reduction.end()
    pooled = torch.stack([each.pooled.transpose(0, 1) for each in expected]).double()
    pairs = {
        "dot": (reduction.dot, pivot.double() @ pooled.mT),
        "squares": (sums.squares, pooled.square().sum(-1)),
    }
    if read.shares:
        sizes = torch.stack([each.token_sizes for each in expected])
        pairs["sizes"] = (sums.token_sizes, sizes)
    if read.activity and active:
        pairs["active"] = (sums.active, torch.stack([each.active for each in expected]))
    tolerance = 0 if read is NAS else 1e-6
    return [
        f"{read.source} {name}"
        for name, (ours, theirs) in pairs.items()
        if not torch.allclose(ours, theirs, rtol=tolerance, atol=0, equal_nan=True)
    ]


def same(report):
    """A report without its run and environment."""
    parts = {key: part for key, part in report.fingerprint.items() if key != "environment"}
    return replace(report, run={}, fingerprint=parts)
