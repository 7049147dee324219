"""The options of a probe, as an object or a TOML file."""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from neuronxa_callback import extend
from neuronxa_callback import option_checks as checks
from neuronxa_callback.corpus.groups import Groups, as_groups
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.errors import ConfigError, CorpusError, reason, unknown
from neuronxa_callback.metrics.own import Faults, OwnMetric
from neuronxa_callback.metrics.registry import (
    ALIGNMENT,
    DIAGNOSTICS,
    Read,
    reads_of,
    source_of,
)
from neuronxa_callback.taps.plan import STACKS
from neuronxa_callback.taps.reader import SITES

LANG_CODES = ("own", "pivot", "none")
CHOICES = {
    "nas_site": SITES,
    "nav_site": SITES,
    "stack": STACKS,
    "on_unproved": ("raise", "warn"),
}
"""Options with a few possible values."""
EXTRA_PAIRS = 100
"""Pairs to read beyond those needed, since some may be too long for the model."""


@dataclass(frozen=True)
class ProbeConfig:
    """What is measured.

    Any field may change the scores, except ``batch_tokens``, ``groups``, ``diagnostics``,
    ``neurons`` and the two of ``language_pairs``.

    Raises:
        ConfigError: If a value has a wrong type or cannot be used; the message names the field.

    Example:
        >>> config = ProbeConfig(languages=["deu_Latn", "swh_Latn"], n_pairs=50)
        >>> config.languages, config.load().languages
        (('deu_Latn', 'swh_Latn'), ('deu_Latn', 'swh_Latn'))
    """

    corpus: str | Mapping[str, Any] | ParallelCorpus = "builtin"
    """``"builtin"`` (or ``"builtin:test"``), a folder of ``<code>.<ext>`` files, a table
    ``{reader = "tatoeba", path = ..., pivot = ...}``, or a ``ParallelCorpus``."""
    languages: tuple[str, ...] | None = None
    """The languages of the corpus to measure; None for all."""
    groups: tuple[Groups, ...] | Groups | None = ()
    """Groups of languages, each with a mean and its interval: ``"script"``, ``"family"``,
    ``"resource"`` (see ``corpus.groups``), ``{"mine": ["de", "sw"]}``, or a list of these. No
    other score depends on it."""
    n_pairs: int = 100
    """The number of pairs, the same for every language. Scores depend on it (see ``chance``)."""
    metrics: tuple[str, ...] = ("nasca", "navca")
    """Names of alignment metrics: nasca, navca, mexa, mexa_last, and registered ones."""
    diagnostics: tuple[str, ...] = tuple(DIAGNOSTICS)
    """Names of diagnostics; they do not change any metric. ``"loss"``, the bits of the sentences,
    is off unless named: it runs each of them once more."""
    neurons: tuple[str, ...] = ()
    """Names of neuron statistics: overlap, sharing, language_neurons, beyond_surface, contrast,
    rivals; they are among the diagnostics of a report and do not change any metric."""
    language_pairs_every: int = 0
    """In training, the first of so many probes measures all pairs of languages too; 0 for none.
    It does not change any metric."""
    language_pairs_gib: float = 8.0
    """GiB that the vectors of all languages may take then. If the layers do not fit together, the
    sentences run once per block of layers."""
    nas_site: str = "gate"
    """Where NASCA reads the activation state: ``"gate"`` or ``"product"``."""
    nav_site: str = "product"
    """Where NAVCA reads the activation value: ``"gate"`` or ``"product"``."""
    batch_tokens: int = 4096
    """The most tokens of one forward pass, padding included."""
    max_length: int = 512
    """The most tokens of one sentence; a pair with a longer one is dropped and reported."""
    special_tokens: bool = True
    """Whether the tokenizer adds special tokens such as BOS and EOS, which then count."""
    template: str | None = None
    """Text around ``{sentence}``, or ``"chat"`` for the tokenizer's chat template. A chat template
    that asks for the date gets 2024-07-26 on every day."""
    lang_codes: str | Mapping[str, str] = "own"
    """For tokenizers with codes of source languages (NLLB, M2M100, mBART): ``"own"`` tokenizes each
    language with its own code, ``"pivot"`` all with the pivot's, ``"none"`` without a code; a
    mapping ``{language: code}`` sets some codes, and the others are their own."""
    neuron_modules: str | Callable[..., Any] | None = None
    """Only for an architecture whose neurons are not found: a regex over the module paths of the
    down projections, or a callable ``model -> [down projection path, ...]``."""
    on_unproved: str = "raise"
    """What to do if the first probe of a model cannot prove that its neurons are read right:
    ``"raise"`` an error, or ``"warn"`` and go on. The scores may then be wrong."""
    stack: str = "encoder"
    """The stack of an encoder-decoder model: ``"encoder"``, ``"decoder"`` or ``"both"`` (not for
    MEXA)."""

    def __post_init__(self) -> None:
        for name in ("languages", "metrics", "diagnostics", "neurons"):
            value = getattr(self, name)
            if value is not None or name != "languages":
                object.__setattr__(self, name, checks.list_of_names(name, value))
        object.__setattr__(self, "groups", as_groups(self.groups))
        if self.languages == ():
            raise ConfigError("languages must name at least one language, or be None, got none")
        extend.require_known("metric", self.metrics)
        extend.require_known("diagnostic", self.diagnostics)
        extend.require_known("neuron statistic", self.neurons)
        if not self.metrics:
            raise ConfigError(f"metrics must name at least one of {', '.join(ALIGNMENT)}, got none")
        for name, known in CHOICES.items():
            checks.require_text(name, getattr(self, name))
            _known(name, (getattr(self, name),), known)
        least = {"n_pairs": 2, "batch_tokens": 1, "max_length": 1, "language_pairs_every": 0}
        for name, lowest in least.items():
            checks.require_integer(name, getattr(self, name), lowest)
        checks.require_positive("language_pairs_gib", self.language_pairs_gib)
        checks.require_flag("special_tokens", self.special_tokens)
        checks.require_text("template", self.template, optional=True)
        if self.template not in (None, "chat") and self.template.count("{sentence}") != 1:
            raise ConfigError(
                f"template must contain {{sentence}} once, or be 'chat', got {self.template!r}"
            )
        if "loss" in self.diagnostics and self.template is not None:
            raise ConfigError(
                "the diagnostic 'loss' counts the bits of the sentences alone, so template must be"
                f" None, got {self.template!r}"
            )
        self._check_corpus()
        self._check_codes()
        self._check_neurons()

    def _check_corpus(self) -> None:
        if isinstance(self.corpus, Path):
            object.__setattr__(self, "corpus", str(self.corpus))
        if isinstance(self.corpus, Mapping):
            for name in self.corpus:
                checks.require_text("an option of corpus", name)
            if "reader" in self.corpus:
                checks.require_text("the reader of corpus", self.corpus["reader"])
            if "path" in self.corpus and self.corpus.get("reader") != "dataset":
                checks.require_path("the path of corpus", self.corpus["path"])
            return
        expected = "'builtin', a path, a table with a path or a ParallelCorpus"
        accepted = isinstance(self.corpus, ParallelCorpus | str) and self.corpus != ""
        checks.require(accepted, "corpus", expected, self.corpus)

    def _check_codes(self) -> None:
        if isinstance(self.lang_codes, Mapping):
            checks.require_mapping("lang_codes", self.lang_codes)
            object.__setattr__(self, "lang_codes", dict(sorted(self.lang_codes.items())))
            return
        expected = f"{', '.join(map(repr, LANG_CODES))} or a mapping of languages to codes"
        checks.require(isinstance(self.lang_codes, str), "lang_codes", expected, self.lang_codes)
        _known("lang_codes", (self.lang_codes,), LANG_CODES)

    def _check_neurons(self) -> None:
        given = self.neuron_modules
        if isinstance(given, str):
            try:
                re.compile(given)
            except (re.error, RecursionError, OverflowError) as cause:
                raise ConfigError(
                    f"neuron_modules must be a regular expression, got {given!r}: {cause}"
                ) from None
        elif not (given is None or callable(given)):
            raise ConfigError(
                "neuron_modules must be a regular expression or a function of the model, got"
                f" {given!r}"
            )
        hidden = [name for name in self.metrics if _site_of(self, name) == "hidden"]
        if hidden and self.stack == "both":
            reader = "mexa" if hidden[0] in ALIGNMENT else hidden[0]
            raise ConfigError(
                f"the hidden states that {reader} reads must be those of one stack, got"
                " stack='both'; set stack to 'encoder' or 'decoder', or leave"
                f" {' and '.join(hidden)} out of metrics"
            )

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read the options from a TOML file; a corpus beside the file is found from any folder.

        Raises:
            ConfigError: If there is no such file, it is not TOML, or it has an unknown option.
        """
        path = Path(path)
        try:
            options = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError:
            raise ConfigError(f"there is no configuration file {str(path)!r}") from None
        except (ValueError, RecursionError) as cause:
            raise ConfigError(f"{path} is not a TOML file: {reason(cause)}") from None
        _known(f"option in {path}", tuple(options), tuple(field.name for field in fields(cls)))
        if isinstance(corpus := options.get("corpus"), str):
            options["corpus"] = _beside(path, corpus)
        if isinstance(corpus, dict) and isinstance(corpus.get("path"), str):
            options["corpus"] = {**corpus, "path": _beside(path, corpus["path"])}
        return cls(**options)

    def load(self) -> ParallelCorpus:
        """Read the corpus and select its languages.

        Raises:
            ConfigError: If there is no path.
            CorpusError: If the reader is unknown, the corpus cannot be read, or it lacks a
                language.
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


def as_probe_config(config: ProbeConfig | ParallelCorpus | str | Path | None) -> ProbeConfig:
    """A configuration from a corpus, a path to a TOML file, or None for the defaults.

    Raises:
        ConfigError: If it is none of these.
    """
    if isinstance(config, ProbeConfig):
        return config
    if isinstance(config, ParallelCorpus):
        return ProbeConfig(corpus=config, n_pairs=min(100, config.n_pairs))
    if isinstance(config, str | Path):
        return ProbeConfig.from_toml(config)
    if config is None:
        return ProbeConfig()
    raise ConfigError(
        "config must be a ProbeConfig, a path to a TOML file, a ParallelCorpus or None, got"
        f" {type(config).__name__}"
    )


def reads_by_site(config: ProbeConfig, faults: Faults | None = None) -> dict[str, tuple[Read, ...]]:
    """Site (``"gate"``, ``"product"``, ``"hidden"``) -> what to compute there.

    Args:
        config: The options.
        faults: Where errors of registered metrics go; None for nowhere.
    """
    reads: dict[str, tuple[Read, ...]] = {}
    for read in reads_of(config.metrics, config.diagnostics, config.neurons):
        site = _site_of_source(config, read.source)
        reads[site] = (*reads.get(site, ()), read)
    for name in extend.own_names("metric", config.metrics):
        own = OwnMetric(name, extend.find("metric", name), faults or Faults())
        site = own.metric.site
        reads[site] = (*reads.get(site, ()), Read(source_of(name), (name,), (name,), own=own))
    return reads


def _site_of(config: ProbeConfig, metric: str) -> str:
    if metric in ALIGNMENT:
        return _site_of_source(config, source_of(metric))
    site: str = extend.find("metric", metric).site
    return site


def _site_of_source(config: ProbeConfig, source: str) -> str:
    return {"nas": config.nas_site, "nav": config.nav_site, "hidden": "hidden"}[source]


def _beside(file: Path, corpus: str) -> str:
    """The path of a corpus relative to a file; unchanged for a built-in one or a data set."""
    beside = file.parent / corpus
    return str(beside) if beside.exists() and not corpus.startswith("builtin") else corpus


def _known(what: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(unknown(what, name, known))
