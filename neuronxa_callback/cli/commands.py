"""The commands: their options and their output. Heavy imports wait until a command runs."""

import json

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.errors import ConfigError

PROBLEM_FOUND = 1
"""Exit code of a command that worked and found a problem."""

app = typer.Typer(
    name="neuronxa",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def show_version(version: options.Version = False) -> None:
    """Measure cross-lingual alignment of feed-forward neurons (NeuronXA) in saved models."""


def examples(*lines: str) -> str:
    """The end of a command's help text."""
    return "\n\n".join(("**Examples**", *(f"`{line}`" for line in lines)))


@app.command(
    epilog=examples(
        "neuronxa score runs/out/checkpoint-500",
        "neuronxa score gpt2 --languages de,sw --csv > layers.csv",
        "neuronxa score gpt2 --groups script,mine=de+sw",
        "neuronxa score gpt2 --languages de,fr,es --pivot all --plot languages.png",
        "neuronxa score gpt2 --languages de,sw --perturb case,typos",
        "torchrun --nproc-per-node 4 -m neuronxa_callback score big/model --dtype bfloat16",
    )
)
def score(  # long: one line per option
    model: options.Model,
    corpus: options.Corpus = None,
    config: options.Config = None,
    languages: options.Languages = None,
    n_pairs: options.Pairs = None,
    metrics: options.Metrics = None,
    groups: options.Groups = None,
    pivot: options.ScorePivot = None,
    plot: options.PairPlot = None,
    perturb: options.Perturb = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    revision: options.Revision = None,
    attn: options.Attention = None,
    tokenizer: options.Tokenizer = None,
    trust_remote_code: options.Trust = False,
    as_json: options.Json = False,
    as_csv: options.Csv = False,
) -> None:
    """Measure one model and print a table, JSON or CSV."""
    from dataclasses import replace

    from neuronxa_callback.cli.hubs import hub_sentences
    from neuronxa_callback.cli.load_model import (
        LoadOptions,
        load_model,
        load_tokenizer,
        require_model,
    )
    from neuronxa_callback.cli.output import print_report, progress_bar
    from neuronxa_callback.cli.scoring.language_pairs import prepare_pairs, write_matrix
    from neuronxa_callback.cli.scoring.perturb import (
        Perturbations,
        announce,
        require_perturbations,
    )
    from neuronxa_callback.config import ProbeConfig
    from neuronxa_callback.probe.distributed import process_group
    from neuronxa_callback.probe.probe import Probe

    load_options = LoadOptions(
        dtype, device, device_map, revision, attn, tokenizer, trust_remote_code
    )
    probe_config = ProbeConfig(
        **option_values.probe_options(corpus, config, languages, n_pairs, metrics, groups)
    )
    kinds = require_perturbations(option_values.split_names(perturb))
    with process_group() as (rank, rank_device):
        require_model(model, load_options)
        if rank_device and not device and not device_map:
            load_options = replace(load_options, device=rank_device)
        probe = Probe(probe_config, load_tokenizer(model, load_options))
        prepare_pairs(probe, pivot, plot, rank == 0)
        loaded = load_model(model, load_options)
        perturbed = Perturbations(probe, loaded, kinds)
        announce(perturbed, rank == 0)
        with progress_bar(not (as_json or as_csv) and rank == 0, "sentences") as progress:
            report = probe.run(loaded, option_values.saved_step(model), progress, pivot)
            report = perturbed.measure(report, progress)
    if rank == 0:
        write_matrix(report, plot)
        hubs = hub_sentences(report, probe.corpus, probe.tokenize(loaded)[0].pairs)
        print_report(report, as_json, as_csv, hubs)


@app.command(
    epilog=examples(
        "neuronxa check builtin",
        "neuronxa check flores/dev --tokenizer gpt2",
        "neuronxa check builtin --against train-*.jsonl",
    )
)
def check(
    corpus: options.CheckedCorpus,
    against: options.Against = None,
    more: options.MoreFiles = None,
    reader: options.Reader = None,
    pivot: options.Pivot = None,
    languages: options.Languages = None,
    n_pairs: options.Pairs = None,
    order: options.Order = None,
    tokenizer: options.Tokenizer = None,
    max_length: options.MaxLength = 512,
    as_json: options.Json = False,
) -> None:
    """Report defects in parallel sentences by file and line, and contaminated training data."""
    from neuronxa_callback.cli.check import check_corpus
    from neuronxa_callback.cli.load_model import LoadOptions, load_tokenizer
    from neuronxa_callback.cli.output import echo, echo_json, progress_bar

    if more and not against:
        raise ConfigError(f"check takes one corpus at a time, got {corpus!r} and {str(more[0])!r}")
    files = list(dict.fromkeys([*(against or ()), *(more or ())]))
    loaded = load_tokenizer(tokenizer, LoadOptions()) if tokenizer else None
    names = option_values.split_names(languages)
    selection = {"languages": names, "n_pairs": n_pairs, "pivot": pivot, "order": order}
    result = check_corpus(corpus, reader, loaded, max_length, selection)
    enabled = not as_json and bool(files)
    with progress_bar(enabled, "training text", in_bytes=True) as progress:
        search = result.search(files, progress) if files else None
    for warning in search.warnings if search else ():
        echo(f"warning: {warning}", err=True)
    if as_json:
        echo_json(json.dumps(result.to_dict(search), ensure_ascii=False))
    else:
        result.show(search)
    if result.n_errors or (search and search.hits):
        raise typer.Exit(PROBLEM_FOUND)


@app.command(
    epilog=examples(
        "neuronxa taps gpt2",
        "neuronxa taps big/model --empty",
        r"neuronxa taps my/model --neuron-modules 'mlp\.w2$'",
    )
)
def taps(
    model: options.Model,
    empty: options.Empty = False,
    neuron_modules: options.NeuronModules = None,
    stack: options.Stack = "encoder",
    revision: options.Revision = None,
    trust_remote_code: options.Trust = False,
    as_json: options.Json = False,
) -> None:
    """List the feed-forward neurons of a model and how they are read."""
    from dataclasses import asdict

    from neuronxa_callback.cli.load_model import LoadOptions, load_model
    from neuronxa_callback.cli.loading.meta_model import build_on_meta
    from neuronxa_callback.cli.output import echo_json
    from neuronxa_callback.cli.taps import discover_taps
    from neuronxa_callback.show import tables, terminal

    load_options = LoadOptions(revision=revision, trust_remote_code=trust_remote_code)
    loaded = build_on_meta(model, load_options) if empty else load_model(model, load_options)
    plan = discover_taps(loaded, neuron_modules, stack)
    if as_json:
        echo_json(json.dumps([asdict(part) for part in plan.parts]))
    else:
        terminal.show(tables.neurons(plan))


@app.command(
    "languages", epilog=examples("neuronxa languages", "neuronxa languages German sw zh-TW")
)
def list_languages(
    names: options.Names = None,
    as_json: options.Json = False,
) -> None:
    """List the built-in languages, or look up the codes of names."""
    from neuronxa_callback.cli.output import echo_json
    from neuronxa_callback.corpus.languages import name, resolve
    from neuronxa_callback.corpus.parallel import ParallelCorpus
    from neuronxa_callback.corpus.readers.builtin import SPLITS
    from neuronxa_callback.show import tables, terminal

    corpora = {split: ParallelCorpus.builtin(split) for split in SPLITS}
    codes_of_split = {split: (built.pivot, *built.languages) for split, built in corpora.items()}
    codes = [resolve(text) for text in names] if names else list(codes_of_split["dev"])
    rows = [
        (code, name(code), [split for split, known in codes_of_split.items() if code in known])
        for code in codes
    ]
    if as_json:
        keys = ("code", "name", "builtin")
        echo_json(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    else:
        terminal.show(tables.languages(rows))
