"""How evenly the work of a probe is dealt to ranks: the busiest one's tokens over the mean.

    python benchmarks/balance.py [--out benchmarks/balance_<date>.md]

No model runs. Sentences are as long as those of the built-in corpus, a token being four bytes of
UTF-8; above the number of built-in languages they are taken again. Padding counts, as it is run.
Ranks go in step within a stage (a pivot, then the languages compared with it); ``waiting`` is the
share of time that the mean rank waits if time goes with tokens: it also counts that stages end
together.
"""

import argparse
import platform
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.probe.batching import PivotGroup, Sentence, Side, microbatches
from neuronxa_callback.probe.sharding import shard_microbatches

RANKS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
LANGUAGES = (8, 12, 20, 40, 80, 120, 200)
KINDS = ("one pivot for all", "a pivot for each")
MOST, ENOUGH = 1.10, 4


def lengths_of(texts):
    return tuple(-(-len(text.encode()) // 4) for text in texts)


def side(name, lengths):
    return Side(name, tuple(Sentence(tuple(range(n)), (False,) * n) for n in lengths))


def builtin(n=100):
    """Lengths of the pivot's sentences and of each language's."""
    corpus = ParallelCorpus.builtin()
    pairs = [corpus.pairs[language][:n] for language in corpus.languages]
    return lengths_of(a for a, _ in pairs[0]), [lengths_of(b for _, b in each) for each in pairs]


def groups_of(languages, kind):
    """Groups as a corpus of so many languages gives them."""
    pivot, targets = builtin()
    names = [f"l{k:03}" for k in range(languages)]
    sides = [side(*each) for each in zip(names, islice(cycle(targets), languages), strict=True)]
    rows = tuple(range(len(pivot)))
    if kind == KINDS[0]:
        return (PivotGroup(side("p", pivot), tuple(sides), (rows,) * languages),)
    return tuple(PivotGroup(side("p", pivot), (each,), (rows,)) for each in sides)


def balance(groups, ranks, batch_tokens):
    """Microbatches per rank, busiest rank's tokens over the mean, share of waiting, pivots held."""
    work = microbatches(groups, batch_tokens)
    total, longest, held = [0] * ranks, 0, 0
    for stage in shard_microbatches(work, groups, ranks):
        here = [0] * ranks
        for now in stage.rounds:
            for rank, each in enumerate(now):
                here[rank] += 0 if each is None else each.tokens
        total = [a + b for a, b in zip(total, here, strict=True)]
        longest += max(here)
        hands = [rank for group in stage.groups for rank in stage.ranks_of(group)]
        held = max(held, *map(hands.count, hands))
    mean = sum(total) / ranks
    return len(work) / ranks, max(total) / mean, 1 - mean / longest, held


def table(kind, batch_tokens):
    """Lines of Markdown, and the largest ratio where there are enough microbatches."""
    lines = ["| languages | " + " | ".join(f"{ranks}" for ranks in RANKS) + " |"]
    lines.append("|" + "---|" * (len(RANKS) + 1))
    worst = 0.0
    for languages in LANGUAGES:
        groups = groups_of(languages, kind)
        cells = []
        for ranks in RANKS:
            each, ratio, waiting, held = balance(groups, ranks, batch_tokens)
            cell = f"{ratio:.3f}, {100 * waiting:.0f} %, {held}"
            if each >= ENOUGH:
                worst = max(worst, ratio)
            else:
                cell = f"({cell})"
            cells.append(cell)
        lines.append(f"| {languages} | " + " | ".join(cells) + " |")
    return lines, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a Markdown file; printed where absent")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[4096, 1024])
    options = parser.parse_args()
    today = datetime.now(UTC).date()
    said = [
        "# Balance over ranks",
        "",
        f"`python benchmarks/balance.py`, {today}, {platform.machine()}, Python"
        f" {platform.python_version()}; {len(ParallelCorpus.builtin().languages)} built-in"
        " languages, 100 pairs.",
        "",
        "Per number of languages and of ranks: the busiest rank's tokens over the mean, the share"
        " of time that the mean rank waits where time goes with tokens, and the most pivots that"
        f" a rank holds at once. In brackets: fewer than {ENOUGH} microbatches per rank; elsewhere"
        f" the ratio must be at most {MOST:.2f}.",
    ]
    for batch_tokens in options.batch_tokens:
        for kind in KINDS:
            lines, worst = table(kind, batch_tokens)
            said += ["", f"## {kind}, batch_tokens={batch_tokens}: at most {worst:.3f}", "", *lines]
    text = "\n".join(said) + "\n"
    if options.out is None:
        print(text)
    else:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
