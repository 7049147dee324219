"""The commands: what they take, and what they print. Heavy imports wait until one runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from neuronxa_callback.errors import ConfigError

FOUND = 1
"""Exit code where something was found that was asked about."""

app = typer.Typer(
    name="neuronxa",
    help="Cross-lingual alignment of feed-forward neurons (NeuronXA), measured on saved models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _examples(*lines: str) -> str:
    return "\n\n".join(("**Examples**", *(f"`{line}`" for line in lines)))


Model = Annotated[str, typer.Argument(help="A folder, or a name on the hub.")]
Corpus = Annotated[
    str | None,
    typer.Option(help="`builtin`, `builtin:test`, or a folder or file of sentences."),
]
Config = Annotated[Path | None, typer.Option(help="A TOML file of probe options.")]
Languages = Annotated[str | None, typer.Option(help="Codes or names, with commas: `de,fra,Thai`.")]
Pairs = Annotated[int | None, typer.Option(help="Pairs per language.", min=2)]
Metrics = Annotated[str | None, typer.Option(help="With commas: `nasca,navca,mexa,mexa_last`.")]
Dtype = Annotated[str, typer.Option(help="`auto` (as saved), `float32`, `bfloat16`, `float16`.")]
Device = Annotated[
    str | None, typer.Option(help="`cpu`, `cuda`, `cuda:1`, ...; the best if absent.")
]
DeviceMap = Annotated[str | None, typer.Option(help="Spread over devices: `auto`, `balanced`, ...")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")]
Attention = Annotated[str | None, typer.Option("--attn", help="`eager`, `sdpa`, ...")]
Tokenizer = Annotated[str | None, typer.Option(help="Where it is, if not beside the model.")]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the model run.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


@app.command(
    epilog=_examples(
        "neuronxa score runs/out/checkpoint-500",
        "neuronxa score gpt2 --languages de,sw --csv > layers.csv",
        "torchrun --nproc-per-node 4 -m neuronxa_callback score big/model --dtype bfloat16",
    )
)
def score(
    model: Model,
    corpus: Corpus = None,
    config: Config = None,
    languages: Languages = None,
    n_pairs: Pairs = None,
    metrics: Metrics = None,
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    revision: Revision = None,
    attn: Attention = None,
    tokenizer: Tokenizer = None,
    trust_remote_code: Trust = False,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print language x layer as CSV.")] = False,
) -> None:
    """Measure one model: a table, JSON or CSV."""
    from dataclasses import replace

    from neuronxa_callback.cli import load_model, output
    from neuronxa_callback.cli import options as inputs
    from neuronxa_callback.config import ProbeConfig
    from neuronxa_callback.probe.distributed import process_group
    from neuronxa_callback.probe.probe import Probe

    how = load_model.LoadOptions(
        dtype, device, device_map, revision, attn, tokenizer, trust_remote_code
    )
    wanted = ProbeConfig(**inputs.options_of(corpus, config, languages, n_pairs, metrics))
    with process_group() as (rank, on):
        load_model.refuse_absent(model, how)
        how = how if device or device_map or not on else replace(how, device=on)
        probe = Probe(wanted, load_model.tokenizer_of(model, how))
        loaded = load_model.load(model, how)
        with output.progress(not (as_json or as_csv) and rank == 0, "sentences") as tell:
            report = probe.run(loaded, inputs.step_of(model), tell)
    if rank == 0:
        output.say(report, as_json, as_csv)


@app.command(
    epilog=_examples(
        "neuronxa sweep runs/out",
        "neuronxa sweep EleutherAI/pythia-160m --revisions step1000,step4000,step16000",
    )
)
def sweep(
    run: Annotated[str, typer.Argument(help="A folder of checkpoints, or a name on the hub.")],
    revisions: Annotated[str | None, typer.Option(help="Of the hub, with commas.")] = None,
    corpus: Corpus = None,
    config: Config = None,
    languages: Languages = None,
    n_pairs: Pairs = None,
    metrics: Metrics = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The JSONL of reports.", dir_okay=False)
    ] = None,
    dtype: Dtype = "auto",
    device: Device = None,
    device_map: DeviceMap = None,
    attn: Attention = None,
    tokenizer: Tokenizer = None,
    trust_remote_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Measure every checkpoint of a run, as the run measured itself; started again, it goes on.

    Where the run kept a record (`neuronxa/reports.jsonl`), its sentences, options, dtype, autocast
    and attention are taken from there, each of them unless an option says otherwise. A dtype that
    is asked for is the one to compute in: there is no autocast then.
    """
    from neuronxa_callback.cli import load_model, output
    from neuronxa_callback.cli import options as inputs
    from neuronxa_callback.cli.sweep import Sweep, checkpoints, record_of
    from neuronxa_callback.show import tables, terminal

    found = checkpoints(run, inputs.listed(revisions) or ())
    how = load_model.LoadOptions(
        dtype, device, device_map, None, attn, tokenizer, trust_remote_code
    )
    asked = inputs.options_of(corpus, config, languages, n_pairs, metrics)
    record = out or record_of(run)
    one = Sweep(run, found, asked, how, record)
    reports = []
    with output.progress(not as_json, f"{len(found)} checkpoints") as tell:
        for report, now in one.reports(tell):
            reports.append(report)
            if as_json:
                typer.echo(report.to_json())
            else:
                terminal.say(terminal.line(report) + ("" if now else " · measured before"))
    if not as_json:
        terminal.show(tables.over_steps(reports))
        typer.echo(f"Every report, one a line: {record}")


@app.command(
    epilog=_examples(
        "neuronxa compare runs/a runs/b",
        "neuronxa compare runs/a@first runs/a@best --metric navca",
        "neuronxa compare before.json after.json --fail-on-drop",
    )
)
def compare(
    before: Annotated[
        str, typer.Argument(help="A run, JSONL or JSON; `@STEP`, `@first`, `@best`.")
    ],
    after: Annotated[str, typer.Argument(help="The same; the last report if nothing is said.")],
    metric: Annotated[str | None, typer.Option(help="The first of the reports if absent.")] = None,
    fail_on_drop: Annotated[
        bool,
        typer.Option(
            "--fail-on-drop", help="Exit with 1 where a language is significantly lower, or NaN."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Paired differences of two reports on the same sentences, with significance (Holm)."""
    from neuronxa_callback.cli import options as inputs
    from neuronxa_callback.cli.compare import ReportDiff

    found = ReportDiff(inputs.report_of(before, metric), inputs.report_of(after, metric), metric)
    if as_json:
        typer.echo(found.to_json())
    else:
        found.show()
    if fail_on_drop and found.dropped:
        typer.echo(f"neuronxa: {'; '.join(found.dropped.values())}", err=True)
        raise typer.Exit(FOUND)


@app.command(
    epilog=_examples(
        "neuronxa page runs/out",
        "neuronxa page runs/* -o all.html",
    )
)
def page(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs, or JSONL files of reports.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.", dir_okay=False)] = Path(
        "alignment.html"
    ),
) -> None:
    """One HTML file with everything to look at, without a network."""
    from neuronxa_callback.cli import options as inputs
    from neuronxa_callback.history.records import find_record
    from neuronxa_callback.show.page.page import write_page

    inputs.require_parent(out)
    faults: list[str] = []
    shown = {name: inputs.curve_of(run, faults) for name, run in inputs.named(runs).items()}
    for words in faults:
        typer.echo(f"neuronxa: {words}", err=True)
    empty = [str(find_record(runs[k])) for k, each in enumerate(shown.values()) if not each]
    if empty:
        raise ConfigError(f"a run must have at least one report, {empty[0]} has none")
    write_page(shown, out, notes=faults)
    typer.echo(str(out))


@app.command(
    epilog=_examples(
        "neuronxa check builtin",
        "neuronxa check flores/dev --tokenizer gpt2",
        "neuronxa check builtin --against train-*.jsonl",
    )
)
def check(
    corpus: Annotated[str, typer.Argument(help="`builtin`, `builtin:test`, a folder or a file.")],
    against: Annotated[
        list[Path] | None, typer.Option(help="Training files: do the sentences stand in them?")
    ] = None,
    more: Annotated[list[Path] | None, typer.Argument(help="More files for --against.")] = None,
    reader: Annotated[
        str | None,
        typer.Option(help="`folder`, `tatoeba`, `bible`, `tsv`, `jsonl`; told if absent."),
    ] = None,
    pivot: Annotated[str | None, typer.Option(help="The language in the middle; English.")] = None,
    languages: Languages = None,
    n_pairs: Pairs = None,
    tokenizer: Tokenizer = None,
    max_length: Annotated[int, typer.Option(help="Most tokens of a sentence.", min=1)] = 512,
    as_json: Json = False,
) -> None:
    """What is wrong with sentences, by file and line; whether training data holds them."""
    from neuronxa_callback.cli import load_model, output
    from neuronxa_callback.cli import options as inputs
    from neuronxa_callback.cli.check import CheckResult

    options: dict[str, Any] = {
        "languages": inputs.listed(languages),
        "n_pairs": n_pairs,
        "pivot": pivot,
    }
    if more and not against:
        raise ConfigError(f"one corpus is checked at a time, got {corpus!r} and {str(more[0])!r}")
    files = [*(against or ()), *(more or ())]
    tokens = load_model.tokenizer_of(tokenizer, load_model.LoadOptions()) if tokenizer else None
    found = CheckResult(corpus, reader, tokens, max_length, options)
    with output.progress(not as_json and bool(files), "training text", unit="bytes") as tell:
        hits = found.search(files, tell) if files else ()
    if as_json:
        typer.echo(json.dumps(found.plain(hits), ensure_ascii=False))
    else:
        found.show(hits, files)
    if found.errors or hits:
        raise typer.Exit(FOUND)


@app.command(
    epilog=_examples(
        "neuronxa taps gpt2",
        "neuronxa taps big/model --empty",
        r"neuronxa taps my/model --neuron-modules 'mlp\.w2$'",
    )
)
def taps(
    model: Model,
    empty: Annotated[
        bool,
        typer.Option(
            "--empty", help="From the configuration alone, with no weights: for large models."
        ),
    ] = False,
    neuron_modules: Annotated[
        str | None, typer.Option(help="A regex over the paths of down projections.")
    ] = None,
    stack: Annotated[str, typer.Option(help="`encoder`, `decoder` or `both`.")] = "encoder",
    revision: Revision = None,
    trust_remote_code: Trust = False,
    as_json: Json = False,
) -> None:
    """Where the feed-forward neurons of a model are, and how each is read."""
    from dataclasses import asdict

    from neuronxa_callback.cli import load_model
    from neuronxa_callback.cli import taps as neurons
    from neuronxa_callback.show import tables, terminal

    how = load_model.LoadOptions(revision=revision, trust=trust_remote_code)
    made = neurons.build_on_meta(model, how) if empty else load_model.load(model, how)
    plan = neurons.found(made, neuron_modules, stack)
    if as_json:
        typer.echo(json.dumps([asdict(part) for part in plan.parts]))
    else:
        terminal.show(tables.neurons(plan))


@app.command(
    epilog=_examples(
        "neuronxa languages",
        "neuronxa languages German sw zh-TW",
    )
)
def languages(
    names: Annotated[list[str] | None, typer.Argument(help="Codes or names to resolve.")] = None,
    as_json: Json = False,
) -> None:
    """The built-in languages; or the code that a name stands for."""
    from neuronxa_callback.corpus import languages
    from neuronxa_callback.corpus.parallel import ParallelCorpus
    from neuronxa_callback.corpus.readers.builtin import SPLITS
    from neuronxa_callback.show import tables, terminal

    halves = {split: ParallelCorpus.builtin(split) for split in SPLITS}
    known = {
        code: [split for split, each in halves.items() if code in (each.pivot, *each.languages)]
        for code in (halves["dev"].pivot, *halves["dev"].languages)
    }
    wanted = [languages.resolve(each) for each in names] if names else list(known)
    rows = [(code, languages.name(code), known.get(code, [])) for code in wanted]
    if as_json:
        keys = ("code", "name", "builtin")
        typer.echo(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    else:
        terminal.show(tables.languages(rows))
