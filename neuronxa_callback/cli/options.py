"""The options and arguments of the commands: name, type and help text of each."""

from pathlib import Path
from typing import Annotated

import typer

from neuronxa_callback._version import __version__

REPEATED = "Separated by commas, or the option repeated."
SHOW_PLACE = "python -X dev -m neuronxa_callback shows where"
"""How a person sees the traceback of an error whose text says little."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neuronxa {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option(
        "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
]
Model = Annotated[str, typer.Argument(help="A folder, or a model name on the Hugging Face hub.")]
Corpus = Annotated[
    str | None,
    typer.Option(help="`builtin`, `builtin:test`, or a folder or file of parallel sentences."),
]
Config = Annotated[Path | None, typer.Option(help="A TOML file of probe options.")]
Languages = Annotated[
    list[str] | None, typer.Option(help=f"Codes or names: `de,fra,Thai`. {REPEATED}")
]
Pairs = Annotated[int | None, typer.Option(help="Sentence pairs per language.", min=2)]
Metrics = Annotated[
    list[str] | None, typer.Option(help=f"`nasca,navca,mexa,mexa_last`. {REPEATED}")
]
Dtype = Annotated[str, typer.Option(help="`auto` (as saved), `float32`, `bfloat16`, `float16`.")]
Device = Annotated[
    str | None,
    typer.Option(help="`cpu`, `cuda`, `cuda:1`, ...; default: a GPU if there is one, else `cpu`."),
]
DeviceMap = Annotated[
    str | None, typer.Option(help="Split the model over devices: `auto`, `balanced`, ...")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Attention = Annotated[
    str | None, typer.Option("--attn", help="Attention implementation: `eager`, `sdpa`, ...")
]
Tokenizer = Annotated[
    str | None, typer.Option(help="Folder or name of the tokenizer; default: that of the model.")
]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Groups = Annotated[
    list[str] | None,
    typer.Option(
        help="Groups of languages with a mean each: `script,family,resource`, or one's own,"
        f" `mine=de+sw`. {REPEATED}"
    ),
]

# The options of one command.
Csv = Annotated[bool, typer.Option("--csv", help="Print a score per language and layer as CSV.")]
Run = Annotated[str, typer.Argument(help="A folder of checkpoints, or a name on the hub.")]
Revisions = Annotated[list[str] | None, typer.Option(help=f"Revisions on the hub. {REPEATED}")]
Record = Annotated[
    Path | None, typer.Option("--out", "-o", help="The JSONL file of reports.", dir_okay=False)
]
Before = Annotated[
    str,
    typer.Argument(
        help="A run, JSONL or JSON file; add `@STEP`, `@first`, `@best` to select a report."
    ),
]
BeforeOrGroups = Annotated[
    str | None,
    typer.Argument(help="A report as in `runs/out@best`; not with --group.", show_default=False),
]
AfterOrGroups = Annotated[
    str | None, typer.Argument(help="The same; default: last report.", show_default=False)
]
RunGroups = Annotated[
    list[str] | None,
    typer.Option(help="Runs of one recipe, such as `A=runs/a*`; twice, instead of two reports."),
]
After = Annotated[str, typer.Argument(help="The same; default: last report.")]
Metric = Annotated[str | None, typer.Option(help="Default: the first metric of `before`.")]
AtN = Annotated[
    int | None,
    typer.Option(help="Expected scores among this many pairs; the reports may differ in pairs."),
]
FailOnDrop = Annotated[
    bool,
    typer.Option("--fail-on-drop", help="Exit with 1 if a language is significantly lower or NaN."),
]
RunsOrGroups = Annotated[
    list[str] | None,
    typer.Argument(help="Folders of runs, or JSONL files of reports.", show_default=False),
]
PageGroups = Annotated[
    list[str] | None,
    typer.Option(help="Runs of one recipe, such as `A=runs/a*`: their mean and their spread."),
]
PageScores = Annotated[
    Path | None,
    typer.Option(help="Downstream scores per language, a file as in `neuronxa correlate`."),
]
CardFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The card, such as README.md; default: print the block."),
]
ModelName = Annotated[
    str | None, typer.Option(help="Name in the metadata; default: the folder of the card.")
]
ScoredRuns = Annotated[
    list[str], typer.Argument(help="Runs, JSONL or JSON files; `@STEP`, `@best` select a report.")
]
Scores = Annotated[
    Path,
    typer.Argument(
        help="A CSV or TSV file (language, task, score), results of lm-evaluation-harness or"
        " lighteval, or an export of W&B."
    ),
]
Task = Annotated[str | None, typer.Option(help="Only tasks whose name contains this.")]
Plot = Annotated[
    Path | None, typer.Option(help="Write a scatter plot as PNG, SVG or PDF.", dir_okay=False)
]
CorrelationCsv = Annotated[bool, typer.Option("--csv", help="Print a row per correlation as CSV.")]
PictureFile = Annotated[
    Path, typer.Option("--out", "-o", help="A PNG, SVG or PDF file.", dir_okay=False)
]
HeatMap = Annotated[
    bool,
    typer.Option("--heat-map", help="The last report by language and layer, sorted by score."),
]
PictureMetric = Annotated[str | None, typer.Option(help="The metric; default: the first one.")]
OneRun = Annotated[str, typer.Argument(help="A run: its folder, or a JSONL file of reports.")]
PageFile = Annotated[Path, typer.Option("--out", "-o", help="The HTML file.", dir_okay=False)]
LanguagePairs = Annotated[
    bool,
    typer.Option("--language-pairs", help="Draw the last heat map of all pairs of languages."),
]
ScorePivot = Annotated[
    str | None,
    typer.Option("--pivot", help="`all`: also the scores of all pairs of languages, as a matrix."),
]
Perturb = Annotated[
    list[str] | None,
    typer.Option(
        help=f"Measure what perturbed translations cost: `case,punctuation,typos`. {REPEATED}"
    ),
]
PairPlot = Annotated[
    Path | None,
    typer.Option("--plot", help="With --pivot all: the matrix as PNG, SVG or PDF.", dir_okay=False),
]
NeuronFile = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The CSV file; default: print it.", dir_okay=False),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="The firing rate above which a neuron fires often; default: the rate that 5 % of all"
        " rates exceed.",
        min=0,
        max=1,
    ),
]
WithText = Annotated[
    bool,
    typer.Option(
        "--with-text", help="Put the sentences into the file; who has it can then read them."
    ),
]
CheckedCorpus = Annotated[
    str, typer.Argument(help="`builtin`, `builtin:test`, a folder or a file.")
]
Against = Annotated[
    list[Path] | None, typer.Option(help="Training files to search for the sentences.")
]
MoreFiles = Annotated[list[Path] | None, typer.Argument(help="More files for --against.")]
Reader = Annotated[
    str | None,
    typer.Option(help="`folder`, `tatoeba`, `bible`, `tsv`, `jsonl`; inferred if omitted."),
]
Order = Annotated[
    str | None, typer.Option(help="Which pairs come first: `spread` over the file, or `file`.")
]
Pivot = Annotated[str | None, typer.Option(help="Code of the pivot language; default: English.")]
MaxLength = Annotated[int, typer.Option(help="Most tokens of a sentence.", min=1)]
Empty = Annotated[
    bool,
    typer.Option("--empty", help="Build the model from its configuration, without weights."),
]
NeuronModules = Annotated[
    str | None, typer.Option(help="A regex for the paths of the down projections.")
]
Stack = Annotated[str, typer.Option(help="`encoder`, `decoder` or `both`.")]
Names = Annotated[list[str] | None, typer.Argument(help="Codes or names to look up.")]
