"""The reports of a run over time: what changed, when to probe, when to stop."""

from neuronxa_callback.history.comparison import compare
from neuronxa_callback.history.records import read_reports
from neuronxa_callback.metrics.statistics import Change

__all__ = ["Change", "compare", "read_reports"]
