"""The command that lists language neurons; importing this module makes all commands."""

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.cli.commands import examples
from neuronxa_callback.cli.pairs import command as pairs_command
from neuronxa_callback.cli.record_commands import app
from neuronxa_callback.cli.workspace import command as workspace_command

__all__ = ["app", "pairs_command", "workspace_command"]


@app.command(
    epilog=examples(
        "neuronxa neurons runs/out/checkpoint-500 -o lape.csv",
        "neuronxa neurons gpt2 --languages de,sw --threshold 0.62",
    )
)
def neurons(
    model: options.Model,
    out: options.NeuronFile = None,
    threshold: options.Threshold = None,
    corpus: options.Corpus = None,
    languages: options.Languages = None,
    n_pairs: options.Pairs = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    tokenizer: options.Tokenizer = None,
    trust_remote_code: options.Trust = False,
) -> None:
    """List the neurons that fire in few languages (LAPE), as CSV; a summary goes to stderr."""
    from neuronxa_callback.cli.load_model import LoadOptions, load_model, load_tokenizer
    from neuronxa_callback.cli.neurons import measure_neurons
    from neuronxa_callback.cli.output import echo, progress_bar
    from neuronxa_callback.config import ProbeConfig
    from neuronxa_callback.probe.probe import Probe
    from neuronxa_callback.whole_file import whole_file

    if out is not None:
        option_values.require_parent(out)
    load_options = LoadOptions(dtype, device, None, revision, None, tokenizer, trust_remote_code)
    chosen = option_values.probe_options(corpus, None, languages, n_pairs, None)
    fixed = {"metrics": ("nasca",), "diagnostics": (), "neurons": ("language_neurons",)}
    probe = Probe(ProbeConfig(**chosen | fixed), load_tokenizer(model, load_options))
    probe.neurons.bar = threshold
    with progress_bar(True, "sentences") as progress:
        rows, summary = measure_neurons(probe, load_model(model, load_options), progress)
    if out is None:
        echo(rows, nl=False)
    else:
        with whole_file(out) as beside:
            beside.write_text(rows, encoding="utf-8", newline="")
    echo(f"neuronxa: {summary}", err=True)
    if out is not None:
        typer.echo(str(out))
