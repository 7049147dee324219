"""NeuronXA cross-lingual alignment, measured while a model trains.

Every name is imported at its first use, so ``import neuronxa_callback`` itself loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neuronxa_callback._version import __version__ as __version__

if TYPE_CHECKING:
    from neuronxa_callback.callback import NeuronXACallback
    from neuronxa_callback.config import ProbeConfig
    from neuronxa_callback.corpus.parallel import ParallelCorpus
    from neuronxa_callback.errors import CorpusError, FingerprintError, NeuronXAError, TapError
    from neuronxa_callback.history.records import read_reports
    from neuronxa_callback.history.stopping import StopRule
    from neuronxa_callback.probe.probe import Probe
    from neuronxa_callback.report import AlignmentReport
    from neuronxa_callback.show.jsonl import JsonlSink
    from neuronxa_callback.show.sinks import MemorySink

_MODULES = {
    "NeuronXACallback": "callback",
    "Probe": "probe.probe",
    "ProbeConfig": "config",
    "ParallelCorpus": "corpus.parallel",
    "StopRule": "history.stopping",
    "AlignmentReport": "report",
    "NeuronXAError": "errors",
    "TapError": "errors",
    "CorpusError": "errors",
    "FingerprintError": "errors",
    "JsonlSink": "show.jsonl",
    "MemorySink": "show.sinks",
    "read_reports": "history.records",
}

__all__ = [
    "AlignmentReport",
    "CorpusError",
    "FingerprintError",
    "JsonlSink",
    "MemorySink",
    "NeuronXACallback",
    "NeuronXAError",
    "ParallelCorpus",
    "Probe",
    "ProbeConfig",
    "StopRule",
    "TapError",
    "read_reports",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'neuronxa_callback' has no attribute {name!r}")
    value = getattr(import_module(f"neuronxa_callback.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
