"""The figures and pictures of docs/neurons.md, from a report with all neuron statistics.

    python benchmarks/neurons/figures.py [--model FOLDER] [--out docs] [--markdown F]

Without a model, the report is that of Gemma-3-270M beside this script (Q4_K_M, dequantised to
float32; the 100 built-in pairs of 25 languages). With one, the model is measured and the report
written; that took 5 minutes of one CPU core.
"""

import argparse
import gzip
import math
import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1]))

import subjects
from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe, ProbeConfig
from neuronxa_callback.history.pairs import pair_rows
from neuronxa_callback.metrics.registry import NEURON_STATISTICS
from neuronxa_callback.neuron_scalars import neuron_scalars
from neuronxa_callback.show.drawing.neurons import neuron_curves

HERE = Path(__file__).parent
RECORDED = HERE / "gemma3_270m.json.gz"
QUANTILE = 1.96


def measure(folder):
    """A report of a model in a folder, with all statistics."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    config = ProbeConfig(metrics=("nasca",), diagnostics=("surface",), neurons=[*NEURON_STATISTICS])
    probe = Probe(config, AutoTokenizer.from_pretrained(folder))
    return probe.run(AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval())


def read(path):
    """A report of a compressed file."""
    return AlignmentReport.from_json(gzip.decompress(path.read_bytes()).decode())


def mean(numbers):
    numbers = [*numbers]
    return sum(numbers) / len(numbers)


def ends(low, high):
    return f"[{low:.3f}, {high:.3f}]"


def by_language(report):
    """One line of Markdown per language, from the highest NASCA to the lowest."""
    overlap = report.diagnostics["overlap"]["with_pivot"]
    neurons = report.diagnostics["language_neurons"]
    heads = ("NASCA", "beyond spelling", "pairs", "overlap", "specific neurons", "design effect")
    yield f"| language | {' | '.join(heads)} |"
    yield "|---|---|---|---|---|---|---|"
    for name in sorted(report.languages, key=lambda name: -report.score("nasca", name)):
        beyond = report.diagnostics["beyond_surface"]["nasca"][name]
        cells = (
            name,
            f"{report.score('nasca', name):.3f} {ends(*report.interval('nasca', name))}",
            f"{beyond['score']:.3f} {ends(beyond['low'], beyond['high'])}",
            str(beyond["pairs"]),
            f"{mean(overlap[name]):.3f}",
            str(sum(neurons["specific"][name])),
            f"{neurons['design_effect'][name]:.2f}",
        )
        yield f"| {' | '.join(cells)} |"


def by_statistic(report):
    """One line of Markdown per statistic: the mean over layers and languages, and its chance."""
    scalars = neuron_scalars(report.diagnostics, "n")
    yield "| statistic | figure | chance or null | ceiling |"
    yield "|---|---|---|---|"
    numbers = (scalars[f"n/overlap/{key}"] for key in ("mean", "chance", "ceiling"))
    yield "| overlap with English | {:.3f} | {:.3f} | {:.3f} |".format(*numbers)
    for rule in ("any", "last"):
        errors = report.diagnostics["sharing"][rule]["errors"]["all"]
        half = QUANTILE * mean(errors)  # layers see the same sentences: errors do not average out
        share, null, excess = (
            scalars[f"n/sharing/{rule}/{key}"] for key in ("all", "null", "excess")
        )
        interval = ends(excess - half, excess + half)
        over = f"{null:.3f}; excess {excess:.3f} {interval}"
        yield f"| shared by all, {rule} token | {share:.3f} | {over} | 1 |"
    for kind in ("specific", "related", "agnostic", "silent"):
        yield f"| {kind} neurons | {scalars[f'n/language_neurons/{kind}']:.3f} | | |"
    yield f"| stability of LAPE's 1 % | {scalars['n/language_neurons/stability']:.2f} | .005 | 1 |"


def failing(report, count=5):
    """The sentences that the fewest languages and layers align."""
    corpus = ParallelCorpus.builtin()
    sentences = [pivot for pivot, _ in corpus.pairs["deu_Latn"]]
    yield "| sentence | fails in |"
    yield "|---|---|"
    for row in pair_rows(report, "nasca")[:count]:
        yield f"| {sentences[row.pair]} | {1 - row.aligned / row.layers:.0%} |"
    yield ""
    yield "| German pair | aligned | wins instead |"
    yield "|---|---|---|"
    for row in pair_rows(report, "nasca", "deu_Latn")[:count]:
        pair, rival = corpus.pairs["deu_Latn"][row.pair], row.rival
        winner = corpus.pairs["deu_Latn"][rival.pair][rival.side == "target"]
        yield (
            f"| {pair[0]} / {pair[1]} | {row.aligned}/{row.layers} |"
            f" {winner} ({rival.side}, in {rival.layers}) |"
        )


def correlation(x, y):
    """Pearson's r."""
    a, b = ([value - mean(row) for value in row] for row in (x, y))
    products = sum(p * q for p, q in zip(a, b, strict=True))
    return products / math.sqrt(sum(p * p for p in a) * sum(q * q for q in b))


def languages_picture(report):
    """Overlap with the pivot against NASCA, one point per language."""
    figure = Figure(figsize=(5.2, 3.6), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    overlap = report.diagnostics["overlap"]["with_pivot"]
    x = [mean(overlap[name]) for name in report.languages]
    y = [report.score("nasca", name) for name in report.languages]
    bars = [
        [abs(y[k] - end) for end in report.interval("nasca", name)]
        for k, name in enumerate(report.languages)
    ]
    axes.errorbar(
        x, y, yerr=[*zip(*bars, strict=True)], fmt="o", markersize=4, linewidth=0.8, color="#0072B2"
    )
    for name, *place in zip(report.languages, x, y, strict=True):
        axes.annotate(name[:3], place, xytext=(4, 3), textcoords="offset points", fontsize=7)
    axes.set_xlabel("overlap with English, mean over layers")
    axes.set_ylabel("NASCA, 95 %")
    axes.set_title(f"25 languages, r = {correlation(x, y):.2f}", loc="left", fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--out", type=Path, default=HERE.parents[1] / "docs")
    parser.add_argument("--markdown")
    options = parser.parse_args()
    if options.model:
        report = measure(options.model)
        RECORDED.write_bytes(gzip.compress(report.to_json().encode(), mtime=0))
    report = read(RECORDED)
    neuron_curves(report).savefig(options.out / "neurons_layers.png")
    languages_picture(report).savefig(options.out / "neurons_languages.png")
    lines = [
        subjects.heading("Neuron statistics of Gemma-3-270M (Q4_K_M, dequantised)", "cpu"),
        f"{len(report.languages)} languages and {report.pivot}, {report.n_pairs} built-in pairs.\n",
        *by_statistic(report), "", *by_language(report), "", *failing(report),
    ]  # fmt: skip
    subjects.keep("\n".join(lines), options.markdown)


if __name__ == "__main__":
    main()
