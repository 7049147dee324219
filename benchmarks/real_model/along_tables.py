"""The tables of ``docs/evidence.md`` about runs, from what ``along.py`` has kept."""

import kept
import numpy as np
from along import KINDS, LANGUAGES, METRICS, MIDDLING

from neuronxa_callback import StopRule
from neuronxa_callback.history.correlation import along_run
from neuronxa_callback.history.history import History

HALVES = ("chosen", "held_out")
RULES = {
    "target .25 of the middling language": StopRule.target(0.25, languages=MIDDLING),
    "plateau, patience 3": StopRule.plateau(patience=3),
    "plateau of the middling language, patience 3": StopRule.plateau(3, languages=MIDDLING),
    "collapse .10": StopRule.collapse(0.10),
    "collapse .10 of any language": StopRule.collapse(0.10, languages="worst"),
}
TASKS = {"topics": 1, "bits": -1}
"""Task -> 1 if more is better, else -1."""
TASK_NAMES = {"bits": "fewer bits per sentence", "topics": "topics found"}


def number(value, digits=2):
    """Without the zero in front: ``-.82``."""
    return f"{value:.{digits}f}".replace("0.", ".", 1)


def downstream(kind, task):
    """language -> one number per checkpoint; more is better."""
    found = kept.rows(f"along_{kind}")
    return {name: [TASKS[task] * row[task][name] for row in found] for name in LANGUAGES}


def curve(kind, metric, half="chosen"):
    """language -> one score per checkpoint."""
    reports = kept.reports(f"along_{kind}_{half}")
    return {name: [report.score(metric, name) for report in reports] for name in LANGUAGES}


def first_stop(rule, reports):
    """The step at which a rule would have stopped the run; None if it never does."""
    history = History()
    for report in reports:
        history.append(report)
        if rule.reason(history):
            return report.step
    return None


def stops():
    """One line per rule: where it stops each run, by each half of the pairs."""
    lines = [
        "| rule | " + " | ".join(f"{kind}: chosen, held out" for kind in KINDS) + " |",
        "|---|" + "---|" * len(KINDS),
    ]
    for title, rule in RULES.items():
        cells = []
        for kind in KINDS:
            steps = [first_stop(rule, kept.reports(f"along_{kind}_{half}")) for half in HALVES]
            cells.append(", ".join("never" if step is None else str(step) for step in steps))
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def ends():
    """One line per run and language: first and last checkpoint."""
    lines = [
        "| run | language | NASCA | held out | bits per sentence | topics found |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        scored = {half: kept.reports(f"along_{kind}_{half}") for half in HALVES}
        found = kept.rows(f"along_{kind}")
        for name in LANGUAGES:
            cells = []
            for half in HALVES:
                both = (scored[half][0], scored[half][-1])
                cells.append(" to ".join(score_with_ends(report, name) for report in both))
            for task, digits in (("bits", 0), ("topics", 2)):
                both = (found[0][task][name], found[-1][task][name])
                cells.append(" to ".join(number(value, digits) for value in both))
            lines.append(f"| {kind} | {name} | {' | '.join(cells)} |")
    return lines


def score_with_ends(report, name):
    low, high = report.interval("nasca", name)
    return f"{number(report.score('nasca', name))} [{number(low)}, {number(high)}]"


def best():
    """One line per run: the checkpoint that each measurement would choose, and what it is worth."""
    lines = [
        "| run | chosen by | step | NASCA, held out | topics found | bits per sentence |",
        "|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        steps = [row["step"] for row in kept.rows(f"along_{kind}")]
        means = {
            "NASCA": mean(curve(kind, "nasca")),
            "NASCA, held out": mean(curve(kind, "nasca", "held_out")),
            "topics found": mean(downstream(kind, "topics")),
            "bits per sentence": mean(downstream(kind, "bits")),
        }
        for title, values in means.items():
            k = int(np.argmax(values))
            cells = [
                number(means["NASCA, held out"][k], 3),
                number(means["topics found"][k], 3),
                f"{-means['bits per sentence'][k]:.1f}",
            ]
            lines.append(f"| {kind} | {title} | {steps[k]} | {' | '.join(cells)} |")
    return lines


def mean(curves):
    """The mean over languages at each checkpoint."""
    return np.mean([curves[name] for name in LANGUAGES], axis=0)


def together():
    """One line per run, metric and task: how alignment and downstream move from step to step."""
    lines = [
        "| run | metric | task | share of changes in the same direction | r of the changes |",
        "|---|---|---|---|---|",
    ]
    for kind in KINDS[:2]:
        for metric in METRICS:
            for task in TASKS:
                found = along_run(curve(kind, metric), downstream(kind, task))
                share = (
                    f"{number(found.together)} [{', '.join(map(number, found.together_interval))}]"
                )
                r = found.correlation
                cells = (share, f"{number(r.r)} [{number(r.low)}, {number(r.high)}]")
                lines.append(f"| {kind} | {metric} | {TASK_NAMES[task]} | {' | '.join(cells)} |")
    return lines


def after_the_collapse():
    """One line per task: NASCA in the fall without its first change, too few for intervals."""
    lines = ["| fall, after its first checkpoint | share of changes in the same direction | r |"]
    lines.append("|---|---|---|")
    for task in TASKS:
        changes = [
            np.array([np.diff(found[name])[1:] for name in LANGUAGES])
            for found in (curve("fall", "nasca"), downstream("fall", task))
        ]
        signs = np.sign(changes[0] * changes[1])
        share = (signs > 0).sum() / (signs != 0).sum()
        centred = [(each - each.mean(axis=1, keepdims=True)).ravel() for each in changes]
        r = np.corrcoef(*centred)[0, 1]
        lines.append(f"| {TASK_NAMES[task]} | {number(share)} | {number(r)} |")
    return lines


def all_tables():
    """Title -> lines of Markdown."""
    return {
        "Runs from their first to their last checkpoint": ends(),
        "Where stop rules stop": stops(),
        "Best checkpoints": best(),
        "Moves from checkpoint to checkpoint": together(),
        "Moves after the collapse": after_the_collapse(),
    }
