"""Does alignment predict what it should, on a real multilingual model?

    python benchmarks/real_model alignment MODEL --data DIR [--corpus builtin]
    python benchmarks/real_model topics MODEL --data DIR
    python benchmarks/real_model loss MODEL --data DIR
    python benchmarks/real_model bmlama MODEL --data DIR
    python benchmarks/real_model along MODEL --data DIR --kind rise
    python benchmarks/real_model tables
    python benchmarks/real_model pictures

MODEL is a folder. DIR holds ``flores_half/<code>.txt`` (parallel lines of FLORES-200),
``flores_half_topics.txt`` (the topic of each line, SIB-200) and ``bmlama53/<code>.tsv.gz``. Results
are kept in ``benchmarks/evidence``, without any text; runs that stop go on where they stopped.
``tables`` and ``pictures`` need these files only.
"""

import argparse
from pathlib import Path

import alignment
import along
import along_tables
import bmlama
import figures
import flores
import kept
import losses
import tables
import topics

LOSS_PAIRS = 16
DOCS = Path(__file__).parents[2] / "docs"


def parser():
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    jobs = found.add_subparsers(dest="job", required=True)
    for name in ("alignment", "topics", "loss", "bmlama", "along"):
        job = jobs.add_parser(name)
        job.add_argument("model")
        job.add_argument("--data", required=True)
        job.add_argument("--name", default="gemma")
        job.add_argument("--dtype", default="bfloat16")
        job.add_argument("--out", type=Path, default=kept.FOLDER)
        if name == "alignment":
            job.add_argument("--corpus", choices=("flores", "builtin"), default="flores")
        if name == "along":
            job.add_argument("--kind", choices=along.KINDS, required=True)
        if name == "topics":
            job.add_argument("--cache", type=Path, required=True, help="a folder for states")
    jobs.add_parser("tables")
    job = jobs.add_parser("pictures")
    job.add_argument("--out", type=Path, default=DOCS)
    return found


def main():
    given = parser().parse_args()
    if given.job == "tables":
        kept.write_scores(kept.FOLDER / "gemma_scores.csv")
        for name, lines in (tables.all_tables() | along_tables.all_tables()).items():
            print(f"\n{name}\n", *lines, sep="\n")
        return
    if given.job == "pictures":
        figures.write(given.out)
        return
    lines = Path(given.data) / "flores_half"
    if given.job == "alignment":
        corpus = "builtin" if given.corpus == "builtin" else lines
        out = given.out / f"{given.name}_{given.corpus}.jsonl"
        alignment.run(given.model, corpus, out, given.dtype)
        return
    if given.job == "along":
        along.run(given.model, given.data, given.out, given.kind)
        return
    out = given.out / f"{given.name}_{given.job}.jsonl"
    languages = flores.languages_of(given.data)
    if given.job == "topics":
        topics.run(given.model, given.data, given.cache, out, given.dtype)
    elif given.job == "loss":
        losses.run(given.model, lines, languages, out, given.dtype, LOSS_PAIRS)
    else:
        bmlama.run(given.model, given.data, out, given.dtype, languages)


if __name__ == "__main__":
    main()
