"""The commands that read records, without a model; importing this module makes all commands."""

from neuronxa_callback.cli import options
from neuronxa_callback.cli.commands import app, examples

__all__ = ["app"]


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
    from neuronxa_callback.cli.output import echo

    if plot is not None:
        options.require_parent(plot)
    found = correlate_files(reports, scores, options.split_names(metrics), task)
    if as_json:
        echo(found.to_json())
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
        options.require_parent(out)
    make_card(report, out, model_name)
