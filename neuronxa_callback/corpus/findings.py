"""What a check of a corpus reports."""

from collections.abc import Iterable
from dataclasses import dataclass

ERROR, ADVICE = "error", "advice"


@dataclass(frozen=True)
class Finding:
    """One error or piece of advice."""

    level: str
    """``"error"`` or ``"advice"``."""
    language: str
    where: str
    """``file:line`` if known, else ``deu_Latn pair 17``; empty for a whole language."""
    message: str

    def __str__(self) -> str:
        return f"{self.level}: {self.where or self.language}: {self.message}"


def errors_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The distinct findings, errors before advice, else in the same order."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: finding.level != ERROR))
