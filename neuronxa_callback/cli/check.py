"""``neuronxa check``: the sentences that are meant, what is wrong with them, who has seen them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from neuronxa_callback.corpus.check import ERROR, Finding, check, fertility, read_and_check
from neuronxa_callback.corpus.contamination import ByteProgress, Hit, contamination
from neuronxa_callback.corpus.parallel import ParallelCorpus
from neuronxa_callback.corpus.readers import detect
from neuronxa_callback.errors import ConfigError

MOST = 20
"""Lines of training data that are shown."""


class CheckResult:
    """A corpus and what was found in it.

    Args:
        name: ``builtin``, ``builtin:test``, a folder or a file.
        reader: Which reader a path is for; None to tell by its files.
        tokenizer: Finds what is too long for ``max_length`` tokens; None to leave it out.
        max_length: Most tokens of a sentence.
        options: ``pivot``, ``languages``, ``n_pairs``; None where not given.
    """

    def __init__(
        self,
        name: str,
        reader: str | None,
        tokenizer: Any,
        max_length: int,
        options: Mapping[str, Any],
    ) -> None:
        given = {key: value for key, value in options.items() if value is not None}
        self.tokenizer = tokenizer
        self.corpus: ParallelCorpus | None
        self.findings: tuple[Finding, ...]
        if name.partition(":")[0] == "builtin":
            self.corpus = _builtin(name, given)
            self.findings = check(self.corpus, tokenizer, max_length)
            return
        if not Path(name).exists() and not any(Path(name).parent.glob(f"{Path(name).name}.*")):
            raise ConfigError(f"a corpus must be 'builtin', a folder or a file, got {name!r}")
        kind = reader or detect.guess(name)
        self.corpus, self.findings = read_and_check(name, kind, tokenizer, max_length, **given)

    @property
    def errors(self) -> int:
        """How many findings distort a score or cost a pair."""
        return sum(each.level == ERROR for each in self.findings)

    def search(self, files: Sequence[Path], progress: ByteProgress | None) -> Sequence[Hit]:
        """Where training files hold its sentences.

        Raises:
            ConfigError: If the corpus itself cannot be read.
        """
        if self.corpus is None:
            raise ConfigError(
                f"sentences must be readable to be searched for: {self.findings[0].message}"
            )
        return contamination(self.corpus, files, progress)

    def plain(self, hits: Sequence[Hit]) -> dict[str, Any]:
        """Everything as plain JSON."""
        return {
            "languages": [] if self.corpus is None else list(self.corpus.languages),
            "pairs": 0 if self.corpus is None else self.corpus.n_pairs,
            "notes": [] if self.corpus is None else list(self.corpus.notes),
            "findings": [asdict(each) for each in self.findings],
            "fertility": self._fertility(),
            "contamination": [asdict(each) for each in hits],
        }

    def show(self, hits: Sequence[Hit], files: Sequence[Path]) -> None:
        """Everything for people, what is worst last."""
        console = Console(soft_wrap=True, highlight=False)
        for note in () if self.corpus is None else self.corpus.notes:
            console.print(Text(note))
        for language, ratio in self._fertility().items():
            console.print(Text(f"{language}: {ratio:.2f} times the tokens of the pivot"))
        for each in reversed(self.findings):
            style = "red" if each.level == ERROR else "yellow"
            console.print(Text(str(each), style=style))
        console.print(Text(self._summary()))
        for hit in hits[:MOST]:
            words = f"{hit.file}:{hit.line}: holds {hit.where}: {hit.sentence!r}"
            console.print(Text(words, style="red"))
        if files:
            more = f", {MOST} of them above" if len(hits) > MOST else ""
            found = f"{len(hits)} sentences stand in training data{more}" if hits else "none found"
            console.print(Text(f"searched {len(files)} files: {found}"))

    def _summary(self) -> str:
        if self.corpus is None:
            return f"cannot be read: {self.errors} errors"
        size = f"{len(self.corpus.languages)} languages, {self.corpus.n_pairs} pairs each"
        if not self.findings:
            return f"nothing wrong: {size}"
        return f"{self.errors} errors, {len(self.findings) - self.errors} pieces of advice: {size}"

    def _fertility(self) -> dict[str, float]:
        if self.tokenizer is None or self.corpus is None:
            return {}
        languages = self.corpus.languages
        return {each: fertility(self.corpus, each, self.tokenizer) for each in languages}


def _builtin(name: str, options: Mapping[str, Any]) -> ParallelCorpus:
    known = dict(options)
    n_pairs = known.pop("n_pairs", None)
    corpus = ParallelCorpus.builtin(name.partition(":")[2] or "dev", **known)
    return corpus if n_pairs is None else corpus.select(n_pairs=n_pairs)
