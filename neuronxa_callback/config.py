"""What a probe measures: the one options object, also a TOML file."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.errors import ConfigError, CorpusError, unknown
from neuronxa_callback.metrics.registry import ALIGNMENT, DIAGNOSTICS

SITES = ("gate", "product")
STACKS = ("encoder", "decoder", "both")
EXTRA_PAIRS = 100
"""Pairs that are read beyond those that are needed."""


@dataclass(frozen=True)
class ProbeConfig:
    """What is measured. Every field but ``batch_tokens`` on equal cards moves the score.

    Raises:
        ConfigError: If a value cannot be used; the sentence names the field.
    """

    corpus: str | Mapping[str, Any] | ParallelCorpus = "builtin"
    """``"builtin"`` (or ``"builtin:test"``), a folder of ``<code>.<ext>`` files, a table
    ``{reader = "tatoeba", path = ..., pivot = ...}``, or a ``ParallelCorpus``."""
    languages: tuple[str, ...] | None = None
    """Which languages of the corpus; None for all."""
    n_pairs: int = 100
    """The first n usable pairs, the same n for every language: n is part of the metric."""
    metrics: tuple[str, ...] = ("nasca", "navca")
    """Names of alignment metrics: nasca, navca, mexa, mexa_last."""
    diagnostics: tuple[str, ...] = tuple(DIAGNOSTICS)
    """Names of diagnostics; none of them changes a metric by one bit."""
    nas_site: str = "gate"
    """Where the activation state is read: ``"gate"`` or ``"product"``."""
    nav_site: str = "product"
    """Where the activation value is read: ``"gate"`` or ``"product"``."""
    batch_tokens: int = 4096
    """Most tokens of one forward pass, padding included."""
    max_length: int = 512
    """Most tokens of one sentence; a longer one drops its pair, by name."""
    special_tokens: bool = True
    """Whether the tokenizer adds its BOS, EOS, ... and they count."""
    template: str | None = None
    """Text around ``{sentence}``, or ``"chat"`` for the tokenizer's chat template."""
    neuron_modules: str | Callable[..., Any] | None = None
    """For an architecture that is not found: a regex over paths of down projections, or a callable
    ``model -> [down projection path, ...]``."""
    stack: str = "encoder"
    """Which stack of an encoder-decoder model: ``"encoder"``, ``"decoder"`` or ``"both"``; MEXA
    reads the hidden states of one."""

    def __post_init__(self) -> None:
        for name in ("languages", "metrics", "diagnostics"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigError(f"{name} must be a list of names, got the text {value!r}")
            if value is not None:
                object.__setattr__(self, name, tuple(dict.fromkeys(value)))
        _known("metric", self.metrics, tuple(ALIGNMENT))
        _known("diagnostic", self.diagnostics, tuple(DIAGNOSTICS))
        _known("nas_site", (self.nas_site,), SITES)
        _known("nav_site", (self.nav_site,), SITES)
        _known("stack", (self.stack,), STACKS)
        for name, least in (("n_pairs", 2), ("batch_tokens", 1), ("max_length", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if not self.metrics:
            raise ConfigError(f"metrics must name at least one of {', '.join(ALIGNMENT)}, got none")
        if self.template not in (None, "chat") and self.template.count("{sentence}") != 1:
            raise ConfigError(
                f"template must contain {{sentence}} once, or be 'chat', got {self.template!r}"
            )
        self._check_neurons()

    def _check_neurons(self) -> None:
        given = self.neuron_modules
        if not (given is None or isinstance(given, str) or callable(given)):
            raise ConfigError(
                "neuron_modules must be a regular expression or a function of the model, got"
                f" {given!r}"
            )
        hidden = " and ".join(name for name in self.metrics if ALIGNMENT[name].source == "hidden")
        if hidden and self.stack == "both":
            raise ConfigError(
                "the hidden states that mexa reads must be those of one stack, got stack='both';"
                f" set stack to 'encoder' or 'decoder', or leave {hidden} out of metrics"
            )

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """The options in a TOML file; paths of a corpus are relative to the file.

        Raises:
            ConfigError: If there is no such file, it is not TOML, or it has an unknown option.
        """
        path = Path(path)
        try:
            options = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError:
            raise ConfigError(f"there is no configuration file {str(path)!r}") from None
        except ValueError as cause:
            raise ConfigError(f"{path} is not a TOML file: {cause}") from None
        _known(f"option in {path}", tuple(options), tuple(field.name for field in fields(cls)))
        corpus = options.get("corpus")
        if isinstance(corpus, dict) and "path" in corpus:
            options["corpus"] = {**corpus, "path": str(path.parent / corpus["path"])}
        return cls(**options)

    def load(self) -> ParallelCorpus:
        """The corpus that this configuration names, with its languages selected.

        Raises:
            CorpusError: If it cannot be read, or a language is not in it.
        """
        corpus = self._read()
        return corpus if self.languages is None else corpus.select(self.languages)

    def _read(self) -> ParallelCorpus:
        if isinstance(self.corpus, ParallelCorpus):
            return self.corpus
        if isinstance(self.corpus, str) and self.corpus.partition(":")[0] == "builtin":
            return ParallelCorpus.builtin(self.corpus.partition(":")[2] or "dev")
        table = {"path": self.corpus} if isinstance(self.corpus, str) else self.corpus
        options = {"languages": self.languages, **table}
        reader = options.setdefault("reader", "folder")
        source = options.pop("path", None) or options.pop("dataset", None)
        if source is None:
            raise ConfigError(
                f"a corpus with reader {reader!r} must have a path, got {self.corpus}"
            )
        # Read extra pairs, since some may be too long; if there are fewer, read all.
        options.setdefault("n_pairs", 2 * self.n_pairs + EXTRA_PAIRS)
        try:
            return ParallelCorpus.read(source, **options)
        except CorpusError:
            options["n_pairs"] = dict(table).get("n_pairs")
            return ParallelCorpus.read(source, **options)


def _known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(unknown(what, name, known))
