"""What all pairs of languages cost, and which vectors are held at a time: blocks of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.batching import PivotGroup

GIB = 2**30
Cell = tuple[str, int]
"""A metric and the index of one of its layers."""


@dataclass(frozen=True)
class PairPlan:
    """The blocks of a measurement and its cost."""

    languages: int
    """Without the pivot."""
    pairs: int
    """Sentence pairs per language."""
    blocks: tuple[tuple[Cell, ...], ...]
    """The vectors that are held together; the sentences run once per block."""
    nbytes: int
    """Bytes of the vectors of the largest block, on this rank."""
    products: int
    """Multiplications of all dot products."""
    most_bytes: int
    """The budget."""

    def describe(self) -> str:
        """The cost in one sentence, for the screen.

        >>> PairPlan(24, 100, ((("nasca", 0),),), 3 * 2**29, 5 * 10**11, 2**33).describe()
        'all pairs of 25 languages: 276 besides those with the pivot; their vectors take 1.5 GiB; \
the sentences run once, as without them; 5e+11 multiplications'
        """
        passes = len(self.blocks)
        runs = (
            "once, as without them"
            if passes == 1
            else f"{passes} times, since the vectors of all layers take more than"
            f" {size_of(self.most_bytes)} (language_pairs_gib)"
        )
        return (
            f"all pairs of {self.languages + 1} languages: {comb(self.languages, 2)} besides those"
            f" with the pivot; their vectors take {size_of(self.nbytes)}; the sentences run {runs};"
            f" {self.products:.0e} multiplications"
        )


def size_of(nbytes: int) -> str:
    """Bytes in words.

    >>> size_of(512), size_of(3 * 2**29)
    ('0.5 KiB', '1.5 GiB')
    """
    power = max(1, min(3, (nbytes.bit_length() - 1) // 10))
    return f"{nbytes / 2 ** (10 * power):.3g} {('KiB', 'MiB', 'GiB')[power - 1]}"


def plan_blocks(
    languages: int, pairs: int, widths: Mapping[str, Sequence[int]], most_bytes: int
) -> PairPlan:
    """Cuts the layers of all metrics into as few blocks as fit.

    Args:
        languages: The number of languages without the pivot.
        pairs: Sentence pairs per language.
        widths: Metric -> neurons of each layer.
        most_bytes: The budget.

    Raises:
        ConfigError: If one layer does not fit.

    Example:
        >>> plan = plan_blocks(2, 10, {"nasca": [50, 50, 50]}, most_bytes=8000)
        >>> plan.blocks, plan.nbytes, plan.products
        (((('nasca', 0), ('nasca', 1)), (('nasca', 2),)), 8000, 15000)
    """
    sizes = {
        (metric, layer): languages * pairs * width * 4
        for metric, by_layer in widths.items()
        for layer, width in enumerate(by_layer)
    }
    blocks: list[list[Cell]] = [[]]
    held, largest = 0, 0
    for cell, size in sizes.items():
        if size > most_bytes:
            raise ConfigError(
                f"the vectors of {languages} languages in one layer must fit into"
                f" {size_of(most_bytes)} (language_pairs_gib), they need {size_of(size)}; name"
                " fewer languages, lower n_pairs, or raise language_pairs_gib"
            )
        if held + size > most_bytes:
            blocks.append([])
            held = 0
        blocks[-1].append(cell)
        held += size
        largest = max(largest, held)
    products = comb(languages, 2) * pairs**2 * sum(map(sum, widths.values()))
    return PairPlan(languages, pairs, tuple(map(tuple, blocks)), largest, products, most_bytes)


def require_comparable(groups: Sequence[PivotGroup]) -> PivotGroup:
    """The one group of a corpus whose languages can be compared with each other.

    Raises:
        ConfigError: If there is one language, or languages have pivot sentences of their own.
    """
    names = [side.language for group in groups for side in group.targets]
    if len(names) < 2:
        raise ConfigError(
            "pivot='all' needs at least 2 languages besides the pivot, got only"
            f" {', '.join(names)}; name more languages, or leave pivot out"
        )
    if len(groups) > 1 or any(rows != groups[0].rows[0] for rows in groups[0].rows):
        raise ConfigError(
            "pivot='all' needs the same pivot sentences in all languages, in one order, but some"
            " languages have pivot sentences of their own; use a corpus with a shared pivot, or"
            " leave pivot out"
        )
    return groups[0]


def require_pivot(pivot: str | None) -> None:
    """Check the option ``pivot`` of a probe.

    Raises:
        ConfigError: If it is neither None nor ``"all"``.
    """
    if pivot not in (None, "all"):
        raise ConfigError(
            "pivot must be 'all', for the scores of all pairs of languages, or left out, for those"
            f" with the pivot of the corpus, got {pivot!r}"
        )
