"""Triton kernels from a text, so that it can be a wrong one; and what they are given."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

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


def same(report):
    """A report without its run and environment."""
    parts = {key: part for key, part in report.fingerprint.items() if key != "environment"}
    return replace(report, run={}, fingerprint=parts)
