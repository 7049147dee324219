"""The commands that read records, without a model; importing this module makes all commands."""

from pathlib import Path

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.cli.checkpoints import command as sweep_command
from neuronxa_callback.cli.commands import PROBLEM_FOUND, app, examples
from neuronxa_callback.errors import ConfigError

__all__ = ["app", "sweep_command"]


@app.command(
    epilog=examples(
        "neuronxa compare runs/a runs/b",
        "neuronxa compare runs/a@first runs/a@best --metric navca",
        "neuronxa compare before.json after.json --fail-on-drop",
        "neuronxa compare runs/pairs100 runs/pairs400 --at-n 100",
        'neuronxa compare --group "A=runs/a*" --group "B=runs/b*"',
    )
)
def compare(
    before: options.BeforeOrGroups = None,
    after: options.AfterOrGroups = None,
    metric: options.Metric = None,
    at_n: options.AtN = None,
    group: options.RunGroups = None,
    fail_on_drop: options.FailOnDrop = False,
    as_json: options.Json = False,
) -> None:
    """Compare two reports, or two groups of runs: differences with p-values (Holm)."""
    from neuronxa_callback.cli.compare import compared
    from neuronxa_callback.cli.output import echo, echo_json

    diff = compared((before, after), group or (), metric, at_n)
    if as_json:
        echo_json(diff.to_json())
    else:
        diff.show()
    if fail_on_drop and diff.drops:
        echo(f"neuronxa: {'; '.join(diff.drops.values())}", err=True)
        raise typer.Exit(PROBLEM_FOUND)


@app.command(
    epilog=examples(
        "neuronxa page runs/out",
        "neuronxa page runs/* -o all.html",
        'neuronxa page --group "A=runs/a*" --group "B=runs/b*"',
        "neuronxa page runs/out --scores belebele.csv",
    )
)
def page(
    runs: options.RunsOrGroups = None,
    out: options.PageFile = Path("alignment.html"),
    corpus: options.Corpus = None,
    group: options.PageGroups = None,
    scores: options.PageScores = None,
    task: options.Task = None,
    with_text: options.WithText = False,
) -> None:
    """Write an interactive page of runs: one HTML file that needs no network."""
    from neuronxa_callback.cli.page.build import make_page

    option_values.require_parent(out)
    if task is not None and scores is None:
        raise ConfigError("--task chooses among downstream scores, name their file with --scores")
    make_page(runs or (), group or (), (scores, task), corpus, out, with_text)


@app.command(
    epilog=examples(
        "neuronxa picture runs/out -o alignment.png",
        "neuronxa picture runs/out -o alignment.svg --metric navca",
        "neuronxa picture runs/out -o languages.png --language-pairs",
        "neuronxa picture runs/out -o layers.png --heat-map",
    )
)
def picture(
    run: options.OneRun,
    out: options.PictureFile = Path("alignment.png"),
    metric: options.PictureMetric = None,
    language_pairs: options.LanguagePairs = False,
    heat_map: options.HeatMap = False,
) -> None:
    """Draw a run: alignment over steps, the loss below it, and the last step by layer."""
    from neuronxa_callback.cli.output import echo
    from neuronxa_callback.cli.run_record import read_and_warn
    from neuronxa_callback.show.charts import write_picture

    option_values.require_parent(out)
    write_picture(read_and_warn(run), out, metric, language_pairs, heat_map)
    echo(str(out))


@app.command(
    epilog=examples(
        "neuronxa correlate runs/out belebele.csv",
        "neuronxa correlate runs/out results_lm_eval.json --metrics nasca,mexa --plot xnli.png",
        "neuronxa correlate runs/a runs/b scores.csv --json",
    )
)
def correlate(
    reports: options.ScoredRuns,
    scores: options.Scores,
    metrics: options.Metrics = None,
    task: options.Task = None,
    plot: options.Plot = None,
    as_json: options.Json = False,
    as_csv: options.CorrelationCsv = False,
) -> None:
    """Correlate alignment per language with downstream scores per language."""
    from neuronxa_callback.cli.correlate import correlate_files, write_plot
    from neuronxa_callback.cli.output import echo, echo_json

    if plot is not None:
        option_values.require_parent(plot)
    found = correlate_files(reports, scores, option_values.split_names(metrics), task)
    if as_json:
        echo_json(found.to_json())
    elif as_csv:
        echo(found.to_csv(), nl=False)
    else:
        found.show()
    if plot is not None:
        write_plot(found.agreements, plot)


@app.command(
    epilog=examples(
        "neuronxa card runs/out",
        "neuronxa card runs/out@best -o runs/out/README.md",
    )
)
def card(
    report: options.Before,
    out: options.CardFile = None,
    model_name: options.ModelName = None,
) -> None:
    """Write a report into a model card: a table, and metadata that the hub reads."""
    from neuronxa_callback.cli.card import make_card

    if out is not None:
        option_values.require_parent(out)
    make_card(report, out, model_name)
