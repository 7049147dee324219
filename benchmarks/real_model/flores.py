"""Parallel sentences and their topics, and which lines serve which purpose.

A line that the probe holds is never seen by the classifier of topics, neither in training nor in
the test.
"""

from pathlib import Path

from neuronxa_callback import ParallelCorpus

PIVOT = "eng_Latn"
EVERY = 4
"""Of the lines that the probe does not hold, every fourth is a test line."""


def lines_of(data, language):
    return (Path(data) / "flores_half" / f"{language}.txt").read_text("utf-8").splitlines()


def languages_of(data):
    names = sorted(path.stem for path in (Path(data) / "flores_half").glob("*.txt"))
    return [name for name in names if name != PIVOT]


def topics_of(data):
    """One topic per line."""
    return (Path(data) / "flores_half_topics.txt").read_text("utf-8").split("\n")[:500]


def split(data, n_pairs=100):
    """(lines of the probe, lines to train on, lines to test on), as indices of lines."""
    lines = lines_of(data, PIVOT)
    language = languages_of(data)[0]
    corpus = ParallelCorpus.from_folder(Path(data) / "flores_half", languages=[language])
    held = {" ".join(pair[0].split()) for pair in corpus.pairs[language][:n_pairs]}
    probe = [k for k, line in enumerate(lines) if " ".join(line.split()) in held]
    if len(probe) != n_pairs:
        raise ValueError(f"the probe must hold {n_pairs} lines of the file, found {len(probe)}")
    rest = [k for k in range(len(lines)) if k not in probe]
    test = rest[::EVERY]
    return probe, [k for k in rest if k not in test], test
