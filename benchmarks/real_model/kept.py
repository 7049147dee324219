"""What the runs have kept (``benchmarks/evidence``), as reports and downstream scores.

Nothing here runs a model: every number of ``docs/evidence.md`` comes from these files.
"""

import json
from pathlib import Path

from neuronxa_callback import read_reports
from neuronxa_callback.history.downstream import DownstreamScore

FOLDER = Path(__file__).parents[1] / "evidence"
TOPIC_LAYERS = range(5, 15)
"""The hidden states whose accuracies are averaged; fixed before any score was seen."""
RULES = ("sentence", "answer_mean", "answer_sum")
"""The rules of BMLAMA: its own, and two with the answer's tokens only."""


def rows(name):
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def reports(name):
    return list(read_reports(FOLDER / f"{name}.jsonl"))


def topic_transfer(layers=TOPIC_LAYERS):
    """language -> mean accuracy over layers."""
    return {
        row["language"]: sum(row["accuracy"][k] for k in layers) / len(layers)
        for row in rows("gemma_topics")
    }


def bits():
    """language -> bits per sentence."""
    return {row["language"]: row["target"]["per_sentence"] for row in rows("gemma_loss")}


def bmlama(rule, rounds=None):
    """language -> share of right answers, over all rounds or some of them."""
    sums = {}
    for row in rows("gemma_bmlama"):
        if rounds is None or row["round"] in rounds:
            right, of = sums.get(row["language"], (0.0, 0))
            sums[row["language"]] = right + row[rule], of + row["questions"]
    return {language: right / of for language, (right, of) in sums.items()}


def tasks():
    """Task -> language -> score."""
    found = {"topic_transfer": topic_transfer(), "bits_per_sentence": bits()}
    return found | {f"bmlama_{rule}": bmlama(rule) for rule in RULES}


def downstream(known):
    """All scores of the languages that a report has."""
    return [
        DownstreamScore(language, task, score)
        for task, scores in tasks().items()
        for language, score in scores.items()
        if language in known
    ]


def write_scores(path):
    """The scores as a table that ``neuronxa correlate`` reads."""
    known = reports("gemma_flores")[0].languages
    lines = ["language,task,score"]
    lines += [f"{s.language},{s.task},{s.score:.6g}" for s in downstream(known)]
    Path(path).write_text("\n".join(lines) + "\n")
