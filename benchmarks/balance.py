"""Computes how evenly the work of a probe is sharded: tokens of the busiest rank over the mean.

    python benchmarks/balance.py [--out benchmarks/balance_<date>.md]

No model runs. Sentence lengths are those of the built-in corpus, at four bytes of UTF-8 per token;
beyond the number of built-in languages they repeat. Padding counts as tokens. Ranks synchronize
after each stage (a pivot, then the languages compared with it); ``waiting`` is the share of time
that the average rank waits if time is proportional to tokens.
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
MOST, ENOUGH = 1.15, 4


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
    """The pivot groups of a corpus with this number of languages."""
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
    total, longest, most_pivots = [0] * ranks, 0, 0
    for stage in shard_microbatches(work, groups, ranks):
        tokens = [0] * ranks
        for microbatches_of_round in stage.rounds:
            for rank, microbatch in enumerate(microbatches_of_round):
                tokens[rank] += 0 if microbatch is None else microbatch.tokens
        total = [a + b for a, b in zip(total, tokens, strict=True)]
        longest += max(tokens)
        holders = [rank for group in stage.groups for rank in stage.ranks_of(group)]
        most_pivots = max(most_pivots, *map(holders.count, holders))
    mean = sum(total) / ranks
    return len(work) / ranks, max(total) / mean, 1 - mean / longest, most_pivots


def table(kind, batch_tokens):
    """Lines of Markdown, and the largest ratio among cells with enough microbatches."""
    lines = ["| languages | " + " | ".join(f"{ranks}" for ranks in RANKS) + " |"]
    lines.append("|" + "---|" * (len(RANKS) + 1))
    worst = 0.0
    for languages in LANGUAGES:
        groups = groups_of(languages, kind)
        cells = []
        for ranks in RANKS:
            per_rank, ratio, waiting, pivots = balance(groups, ranks, batch_tokens)
            cell = f"{ratio:.3f}, {100 * waiting:.0f} %, {pivots}"
            if per_rank >= ENOUGH:
                worst = max(worst, ratio)
            else:
                cell = f"({cell})"
            cells.append(cell)
        lines.append(f"| {languages} | " + " | ".join(cells) + " |")
    return lines, worst


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="a Markdown file; default: print")
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[4096, 1024])
    options = parser.parse_args()
    today = datetime.now(UTC).date()
    text = [
        "# Balance over ranks",
        "",
        f"`python benchmarks/balance.py`, {today}, {platform.machine()}, Python"
        f" {platform.python_version()}; {len(ParallelCorpus.builtin().languages)} built-in"
        " languages, 100 pairs.",
        "",
        "By number of languages (rows) and ranks (columns): tokens of the busiest rank over the"
        " mean, share of time that the average rank waits, largest number of pivots that a rank"
        f" holds at once. In brackets: fewer than {ENOUGH} microbatches per rank; in all other"
        f" cells the ratio must be at most {MOST:.2f}.",
    ]
    for batch_tokens in options.batch_tokens:
        for kind in KINDS:
            lines, worst = table(kind, batch_tokens)
            text += ["", f"## {kind}, batch_tokens={batch_tokens}: at most {worst:.3f}", "", *lines]
    document = "\n".join(text) + "\n"
    if options.out is None:
        print(document)
    else:
        options.out.write_text(document, encoding="utf-8")


if __name__ == "__main__":
    main()
