"""The command ``neuronxa pairs``."""

from pathlib import Path
from typing import Annotated

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.cli.commands import app, examples
from neuronxa_callback.errors import ConfigError

Measured = Annotated[
    str,
    typer.Argument(help="A run or report as in `runs/out@best`, or a model, which is measured."),
]
Language = Annotated[
    str | None, typer.Option(help="A code or name; default: all languages together.")
]
Other = Annotated[
    str | None,
    typer.Option("--against", help="What it is compared with, such as an earlier checkpoint."),
]
Top = Annotated[int, typer.Option(help="The most rows of the table; 0 for all.", min=0)]
PairMetric = Annotated[str | None, typer.Option(help="Default: the first metric, or `nasca`.")]
PairFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Write CSV (or JSON) to this file.", dir_okay=False),
]
PairCsv = Annotated[bool, typer.Option("--csv", help="Print a row per pair as CSV.")]


@app.command(
    epilog=examples(
        "neuronxa pairs runs/out/checkpoint-500 --language deu_Latn",
        "neuronxa pairs runs/out@last --language deu_Latn --against runs/out@first",
        "neuronxa pairs gpt2 --language German --csv -o pairs.csv",
    )
)
def pairs(  # long: the options of the command
    model: Measured,
    language: Language = None,
    against: Other = None,
    metric: PairMetric = None,
    corpus: options.Corpus = None,
    n_pairs: options.Pairs = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    revision: options.Revision = None,
    tokenizer: options.Tokenizer = None,
    trust_remote_code: options.Trust = False,
    top: Top = 20,
    with_text: options.WithText = False,
    as_json: options.Json = False,
    as_csv: PairCsv = False,
    out: PairFile = None,
) -> None:
    """List the sentence pairs by how many layers align them, and the sentence that wins instead."""
    from neuronxa_callback.cli.load_model import LoadOptions
    from neuronxa_callback.cli.output import echo, echo_json
    from neuronxa_callback.cli.pairs.listing import Listing
    from neuronxa_callback.cli.pairs.sides import sides_of
    from neuronxa_callback.corpus.languages import resolve
    from neuronxa_callback.show import terminal
    from neuronxa_callback.whole_file import whole_file

    if out is not None:
        option_values.require_parent(out)
    if against is not None and language is None:
        raise ConfigError("--against compares the pairs of one language; name it with --language")
    sides = sides_of(
        [model] if against is None else [against, model],
        option_values.probe_options(corpus, None, None, n_pairs, None),
        LoadOptions(dtype, device, None, revision, None, tokenizer, trust_remote_code),
        language,
        metric,
        corpus,
    )
    first = sides.reports[0]
    name = None if language is None else resolve(language, first.languages)
    listing = Listing(sides, name, metric or next(iter(first.metrics)))
    text = listing.to_json(with_text) + "\n" if as_json else listing.to_csv(with_text)
    if out is not None:
        with whole_file(out) as beside:
            beside.write_text(text, encoding="utf-8", newline="")
        echo(str(out))
    elif as_json:
        echo_json(text.rstrip("\n"))
    elif as_csv:
        echo(text, nl=False)
    else:
        terminal.show(listing.table(top))
    shows_text = with_text or not (as_json or as_csv or out)
    for note in listing.notes if shows_text else ():
        echo(f"neuronxa: {note}", err=True)
