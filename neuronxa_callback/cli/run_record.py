"""How a run measured itself, from its own record: what a sweep repeats."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from neuronxa_callback.cli import load_model, options
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.metrics.registry import DIAGNOSTICS
from neuronxa_callback.report import AlignmentReport


@dataclass(frozen=True)
class RunRecord:
    """What a run's record says of how it measured itself."""

    report: AlignmentReport

    @classmethod
    def of(cls, run: str) -> "RunRecord | None":
        """The last report of a run; None where it kept none."""
        try:
            reports = options.reports_of(run)
        except ConfigError:
            return None
        return cls(reports[-1]) if reports else None

    def config(self, asked: Mapping[str, Any]) -> ProbeConfig:
        """The same measurement again, but for the options that were asked for.

        Raises:
            ConfigError: If the run's sentences, or a function of its own, cannot be known.
        """
        definition = self.report.fingerprint["definition"]
        known = {each.name for each in fields(ProbeConfig)}
        same = {key: value for key, value in definition.items() if key in known}
        same |= {
            "metrics": tuple(definition["metrics"]),
            "diagnostics": tuple(name for name in DIAGNOSTICS if name in self.report.diagnostics),
        }
        same |= {**asked, "corpus": self._corpus(asked)}
        if isinstance(same["neuron_modules"], Mapping):
            name = same["neuron_modules"].get("function")
            raise ConfigError(
                f"this run found its neurons by its function {name!r}, which a record cannot hold;"
                " name them by neuron_modules in a file for --config"
            )
        return ProbeConfig(**same)

    def _corpus(self, asked: Mapping[str, Any]) -> Any:
        definition = self.report.fingerprint["definition"]
        name, _, _ = str(definition["corpus"]).partition("@")
        corpus = asked.get("corpus", name)
        if isinstance(corpus, str) and corpus.partition(":")[0] == "builtin":
            return corpus
        if "corpus" not in asked:
            raise ConfigError(
                f"this run measured the sentences {corpus!r}, which are not built in;"
                " name them with --config or --corpus"
            )
        table = {"path": corpus} if isinstance(corpus, str) else corpus
        return {"pivot": definition["pivot"], **table}

    def how(self, how: load_model.LoadOptions) -> load_model.LoadOptions:
        """As the run held its weights, where nothing else was asked for."""
        model = self.report.fingerprint["model"]
        asked = load_model.LoadOptions()
        return replace(
            how,
            dtype=model["weights"] if how.dtype == asked.dtype else how.dtype,
            attention=how.attention or model["attention"],
        )

    @property
    def autocast(self) -> torch.dtype | None:
        """In what the neurons computed where that was not the dtype of the weights."""
        model = self.report.fingerprint["model"]
        if model["states"] == model["weights"]:
            return None
        found = getattr(torch, str(model["states"]), None)
        return found if isinstance(found, torch.dtype) else None

    @property
    def batch_tokens(self) -> int:
        """How many tokens it ran at a time."""
        return int(self.report.fingerprint["environment"]["batch_tokens"])
