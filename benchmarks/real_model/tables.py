"""The tables of ``docs/evidence.md``, as lines of Markdown, from what the runs have kept."""

import kept
import numpy as np

from neuronxa_callback.history import correlation
from neuronxa_callback.history.agreement import correlate
from neuronxa_callback.history.score_table import covariates

MODEL = "gemma"
METRICS = ("nasca", "navca", "mexa")
BEYOND = "nasca beyond spelling"


def number(value):
    """Two decimals without the zero in front: ``-.82``."""
    text = f"{value:.2f}".replace("0.", ".", 1)
    return ".00" if text == "-.00" else text


def ends(low, high):
    return f"[{number(low)}, {number(high)}]"


def with_ends(found):
    return f"{number(found.r)} {ends(found.low, found.high)}"


def agreements():
    (report,) = kept.reports("gemma_flores")
    return correlate({MODEL: [report]}, kept.downstream(report.languages), METRICS)


def beyond_spelling(task):
    """Pearson's and Spearman's correlation of NASCA beyond spelling, and r given all covariates."""
    (report,) = kept.reports("gemma_flores")
    found = report.diagnostics["beyond_surface"]["nasca"]
    scores = kept.tasks()[task]
    names = [
        name for name in report.languages if name in scores and found[name]["score"] is not None
    ]
    x, y = [found[name]["score"] for name in names], [scores[name] for name in names]
    given = list(covariates(report, names).values())
    return correlation.pearson(x, y), correlation.spearman(x, y), correlation.partial(x, y, given)


def correlations(found=None):
    """One row per task and metric."""
    found = found or agreements()
    lines = [
        "| task | metric | languages | Pearson's r | Spearman's | given fertility | given spelling"
        " | given fertility, spelling and script | without one language |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.over_languages:
        partial = [with_ends(each.partial[name]) for name in ("fertility", "surface", "all")]
        one = each.without_one
        cells = (
            each.task, each.metric, each.pearson.n, with_ends(each.pearson),
            with_ends(each.spearman), *partial, f"{number(one.low)} to {number(one.high)}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
        if each.metric == METRICS[0]:
            r, rank, rest = beyond_spelling(each.task)
            cells = (each.task, BEYOND, r.n, with_ends(r), with_ends(rank), "", "", with_ends(rest))
            lines.append(f"| {' | '.join(map(str, cells))} | |")
    return lines


def differences(found=None):
    """One row per task and pair of metrics."""
    found = found or agreements()
    lines = ["| task | metrics | difference of r |", "|---|---|---|"]
    for each in found.differences:
        cells = f"{number(each.difference)} {ends(each.low, each.high)}"
        lines.append(f"| {each.task} | {each.metrics[0]} - {each.metrics[1]} | {cells} |")
    return lines


def reliability():
    """How well BMLAMA's scores repeat over halves of the questions; the bound of r by it."""
    lines = [
        "| rule | mean share of right answers | least | most | r of two halves of the questions |"
        " of all questions (Spearman-Brown) | largest r that is possible |",
        "|---|---|---|---|---|---|---|",
    ]
    numbers = sorted({row["round"] for row in kept.rows("gemma_bmlama")})
    for rule in kept.RULES:
        one, two = kept.bmlama(rule, numbers[::2]), kept.bmlama(rule, numbers[1::2])
        names = [name for name in one if name in two]
        r = float(np.corrcoef([one[n] for n in names], [two[n] for n in names])[0, 1])
        whole = max(0.0, 2 * r / (1 + r))
        shares = list(kept.bmlama(rule).values())
        cells = (
            rule.replace("_", ", "), number(np.mean(shares)), number(min(shares)),
            number(max(shares)), number(r), number(whole), number(whole**0.5),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def confounds():
    """How the scores go along with fertility and with spelling alone, over all languages."""
    (report,) = kept.reports("gemma_flores")
    given = covariates(report, report.languages)
    lines = [
        "| metric | tokens per English token | spelling (character 3-grams) |",
        "|---|---|---|",
    ]
    for metric in METRICS:
        scores = [report.score(metric, name) for name in report.languages]
        found = [correlation.pearson(scores, given[name]) for name in ("fertility", "surface")]
        lines.append(f"| {metric} | {' | '.join(map(with_ends, found))} |")
    return lines


LEVELS = {
    "Gemma-3-270M (multilingual)": "gemma_builtin",
    "SmolLM2-135M-Instruct (English-centred)": "smollm2_builtin",
    "random weights (Gemma-3-270M's architecture)": "random_builtin",
}
SHOWN = ("spa", "fra", "deu", "zho", "jpn", "hin", "tur", "urd", "swh")


def levels():
    """NASCA of three models on the built-in sentences."""
    lines = []
    for title, name in LEVELS.items():
        (report,) = kept.reports(name)
        codes = [next(n for n in report.languages if n.startswith(code)) for code in SHOWN]
        cells = [f"{report.score('nasca', code):.3f}"[1:] for code in codes]
        low, high = report.interval("nasca")
        mean = f"{report.score('nasca'):.3f} [{low:.3f}, {high:.3f}]".replace("0.", ".")
        mean += "" if len(report.languages) == 25 else f" (of {len(report.languages)})"
        lines.append(f"| {title} | {' | '.join(cells)} | {mean} |")
    return lines


def all_tables():
    """Title -> lines of Markdown."""
    found = agreements()
    return {
        "Correlations": correlations(found),
        "Differences": differences(found),
        "Reliability of BMLAMA": reliability(),
        "Confounds": confounds(),
        "Levels": levels(),
    }
