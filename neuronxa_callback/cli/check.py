"""``neuronxa check``: defects in parallel sentences, and whether training data contains them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuronxa_callback.cli.option_values import is_builtin
from neuronxa_callback.corpus.check import check, fertility, read_and_check
from neuronxa_callback.corpus.contamination import ByteProgress, Search, search_files
from neuronxa_callback.corpus.findings import ERROR, Finding, errors_first
from neuronxa_callback.corpus.identify import LanguageCheck, check_languages
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show.terminal import show_text

MAX_HITS_SHOWN = 20


@dataclass(frozen=True)
class CheckResult:
    """The findings in a corpus."""

    corpus: ParallelCorpus | None
    """None if it cannot be read; the findings say why."""
    findings: tuple[Finding, ...]
    """Errors first."""
    tokenizer: Any = None
    """The tokenizer whose fertility is reported; None for no fertility."""
    note: str = ""
    """Which languages' lines were not checked for other languages, and why."""

    @property
    def n_errors(self) -> int:
        """The number of findings that distort a score or cost a pair."""
        return sum(finding.level == ERROR for finding in self.findings)

    @cached_property
    def fertility(self) -> dict[str, float]:
        """Language -> its number of tokens divided by that of the pivot."""
        if self.tokenizer is None or self.corpus is None:
            return {}
        return {
            language: fertility(self.corpus, language, self.tokenizer)
            for language in self.corpus.languages
        }

    def search(self, files: Sequence[Path], progress: ByteProgress | None) -> Search:
        """Find the sentences of the corpus in training files.

        Raises:
            ConfigError: If the corpus cannot be read.
            CorpusError: If a training file cannot be read, or there is no text.
        """
        if self.corpus is None:
            raise ConfigError(
                f"cannot search for sentences that cannot be read: {self.findings[0].message}"
            )
        return search_files(self.corpus, files, progress)

    def to_dict(self, search: Search | None) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return {
            "languages": [] if self.corpus is None else list(self.corpus.languages),
            "pairs": 0 if self.corpus is None else self.corpus.n_pairs,
            "notes": self._notes(),
            "findings": [asdict(finding) for finding in self.findings],
            "fertility": self.fertility,
            "contamination": [asdict(hit) for hit in search.hits] if search else [],
            "searched": search
            and {"files": search.files, "lines": search.lines, "bytes": search.size},
        }

    def show(self, search: Search | None) -> None:
        """Print everything, errors after advice, so that they are next to the prompt."""
        for note in self._notes():
            show_text(note)
        for language, ratio in self.fertility.items():
            show_text(f"{language}: {ratio:.2f} times the tokens of the pivot")
        for finding in reversed(self.findings):
            style = "red" if finding.level == ERROR else "yellow"
            show_text(str(finding), style)
        show_text(self._summary())
        if search is None:
            return
        hits = search.hits
        for hit in hits[:MAX_HITS_SHOWN]:
            line = f"{hit.file}:{hit.line}: contains {hit.where}: {hit.sentence!r}"
            show_text(line, "red")
        note = f" ({MAX_HITS_SHOWN} are shown)" if len(hits) > MAX_HITS_SHOWN else ""
        show_text(
            f"searched {search.files} files, {search.lines} lines, {search.size} bytes:"
            f" {len(hits)} sentences in training data{note}"
        )

    def _notes(self) -> list[str]:
        corpus = self.corpus
        notes = [] if corpus is None else [*corpus.notes, corpus.order and f"pairs: {corpus.order}"]
        return [note for note in (*notes, self.note) if note]

    def _summary(self) -> str:
        if self.corpus is None:
            return f"cannot be read: {self.n_errors} errors"
        size = f"{len(self.corpus.languages)} languages, {self.corpus.n_pairs} pairs each"
        if not self.findings:
            return f"no problems: {size}"
        n_advice = len(self.findings) - self.n_errors
        return f"{self.n_errors} errors, {n_advice} pieces of advice: {size}"


def check_corpus(
    name: str,
    reader: str | None,
    tokenizer: Any,
    max_length: int,
    options: Mapping[str, Any],
) -> CheckResult:
    """Read a corpus and check its sentences.

    Args:
        name: ``builtin``, ``builtin:test``, a folder or a file.
        reader: The reader of a folder or file; None to infer it from the files.
        tokenizer: Reports sentences of more than ``max_length`` tokens; None to skip this.
        max_length: Most tokens of a sentence.
        options: ``pivot``, ``languages``, ``n_pairs``; an option that is None is not used.

    Raises:
        ConfigError: If there is no such corpus.
    """
    set_options = {key: value for key, value in options.items() if value is not None}
    if is_builtin(name):
        builtin = _read_builtin(name, **set_options)
        return _result(builtin, check(builtin, tokenizer, max_length), tokenizer)
    if not Path(name).exists() and not any(Path(name).parent.glob(f"{Path(name).name}.*")):
        raise ConfigError(f"a corpus must be 'builtin', a folder or a file, got {name!r}")
    kind = reader or detect.guess(name)
    corpus, findings = read_and_check(name, kind, tokenizer, max_length, **set_options)
    return _result(corpus, findings, tokenizer)


def _result(
    corpus: ParallelCorpus | None, findings: tuple[Finding, ...], tokenizer: Any
) -> CheckResult:
    """The result with the lines in other languages."""
    foreign = LanguageCheck() if corpus is None else check_languages(corpus.in_file_order())
    return CheckResult(
        corpus, errors_first([*findings, *foreign.findings]), tokenizer, foreign.note
    )


def _read_builtin(
    name: str, n_pairs: int | None = None, order: str | None = None, **options: Any
) -> ParallelCorpus:
    corpus = ParallelCorpus.builtin(name.partition(":")[2] or "dev", **options)
    return corpus if n_pairs is None else corpus.select(n_pairs=n_pairs)
