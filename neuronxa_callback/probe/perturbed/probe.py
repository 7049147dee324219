"""A probe of the same pairs with perturbed target sentences.

The perturbed sentences run in microbatches of their own, so the clean scores stay as they are.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from neuronxa_callback.corpus.perturbation.changes import perturb
from neuronxa_callback.probe.batching import PivotGroup, Sentence, TokenizedCorpus
from neuronxa_callback.probe.probe import Probe
from neuronxa_callback.probe.tokenization import SentenceTokenizer


@dataclass(frozen=True)
class PerturbedCorpus:
    """The pairs of a clean probe with perturbed targets."""

    kind: str
    tokenized: TokenizedCorpus
    """Of the languages that the perturbation applies to; all pairs of each."""
    left_out: Mapping[str, str]
    """Language -> why it has no perturbed sentences."""

    @property
    def tokens(self) -> int:
        """The number of tokens of all sentences, without padding."""
        return count_tokens(self.tokenized)


def count_tokens(tokenized: TokenizedCorpus) -> int:
    """The number of tokens of all sentences that run, without padding."""
    keys = {(tokenized.pivot, pair[0]): None for rows in tokenized.pairs.values() for pair in rows}
    keys |= {(name, pair[1]): None for name, rows in tokenized.pairs.items() for pair in rows}
    return sum(len(tokenized.sentences[key].ids) for key in keys)


def perturb_corpus(
    kind: str, clean: TokenizedCorpus, tokenizer: SentenceTokenizer, limit: int
) -> PerturbedCorpus:
    """Perturbs the target side of every pair; the pivot side stays.

    Args:
        kind: A name in ``corpus.perturbation.changes.CHANGES``.
        clean: The pairs that the clean probe measures.
        tokenizer: The tokenizer of that probe.
        limit: The most tokens of a sentence. A language with a longer one is left out.
    """
    pairs: dict[str, tuple[tuple[str, str], ...]] = {}
    left_out: dict[str, str] = {}
    sentences: dict[tuple[str, str], Sentence] = dict(clean.sentences)
    for language, rows in clean.pairs.items():
        changed = perturb(kind, [target for _, target in rows], language)
        if isinstance(changed, str):
            left_out[language] = changed
            continue
        tokens = {(language, text): tokenizer(text, language) for text in changed}
        unusable = sum(not 0 < len(each.ids) <= limit for each in tokens.values())
        if unusable:
            left_out[language] = (
                f"{unusable} of its sentences would have 0 or more than {limit} tokens"
            )
            continue
        pairs[language] = tuple(
            (pivot, text) for (pivot, _), text in zip(rows, changed, strict=True)
        )
        sentences |= tokens
    tokenized = TokenizedCorpus(pairs, sentences, (), clean.pivot)
    return PerturbedCorpus(kind, tokenized, left_out)


class PerturbedProbe(Probe):
    """Measures perturbed pairs with the options, the proofs and the tokenizer of a clean probe.

    Args:
        clean: A probe that has run.
        corpus: Its pairs with perturbed targets, of at least one language.
    """

    def __init__(self, clean: Probe, corpus: PerturbedCorpus) -> None:
        chosen = clean.corpus.select(tuple(corpus.tokenized.pairs))
        config: Any = replace(
            clean.config, corpus=chosen, languages=None, groups=(), neurons=(), diagnostics=()
        )
        super().__init__(config, clean.tokenizer.original, clean.mesh, clean.forward)
        self.batch_tokens, self.proofs = clean.batch_tokens, clean.proofs
        self._proved, self._perturbed = clean._proved, corpus.tokenized

    def tokenize(self, model: nn.Module) -> tuple[TokenizedCorpus, tuple[PivotGroup, ...]]:
        """The perturbed pairs, whatever the model: they were tokenized and checked before."""
        return self._perturbed, self._perturbed.groups(self.corpus.pivot)
