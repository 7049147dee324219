"""The command ``neuronxa sweep``: once over all checkpoints, or beside the training."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.cli.commands import app, examples
from neuronxa_callback.errors import ConfigError

if TYPE_CHECKING:
    from neuronxa_callback.cli.checkpoints.watch import Watch
    from neuronxa_callback.cli.load_model import LoadOptions
    from neuronxa_callback.report import AlignmentReport

WatchFlag = Annotated[
    bool, typer.Option("--watch", help="Go on: score checkpoints as they are written.")
]
UntilStep = Annotated[
    int | None, typer.Option(help="With --watch: end when a checkpoint of this step is scored.")
]
StopFile = Annotated[
    Path | None,
    typer.Option(
        help="With --watch: end when this file exists; a stop rule writes its verdict to it.",
        dir_okay=False,
    ),
]
Poll = Annotated[float, typer.Option(help="With --watch: seconds between two looks.", min=0.01)]
Wandb = Annotated[
    str | None, typer.Option(help="With --watch: log to this W&B run: ENTITY/PROJECT/RUN.")
]
ResumeRun = Annotated[
    str | None,
    typer.Option(help="The same by the id of the run; entity and project are W&B's settings."),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(help="A stop rule: `collapse:drop=0.1,languages=de+sw`; may be repeated."),
]
Alert = Annotated[list[str] | None, typer.Option(help="The same as an alert, without a stop.")]


@app.command(
    epilog=examples(
        "neuronxa sweep runs/out",
        "neuronxa sweep EleutherAI/pythia-160m --revisions step1000,step4000,step16000",
        "neuronxa sweep runs/out --watch --stop-file runs/out/stop --stop collapse:drop=0.1",
    )
)
def sweep(  # long: the options of the command
    run: options.Run,
    revisions: options.Revisions = None,
    corpus: options.Corpus = None,
    config: options.Config = None,
    languages: options.Languages = None,
    n_pairs: options.Pairs = None,
    metrics: options.Metrics = None,
    groups: options.Groups = None,
    out: options.Record = None,
    dtype: options.Dtype = "auto",
    device: options.Device = None,
    device_map: options.DeviceMap = None,
    attn: options.Attention = None,
    tokenizer: options.Tokenizer = None,
    trust_remote_code: options.Trust = False,
    as_json: options.Json = False,
    watch: WatchFlag = False,
    until_step: UntilStep = None,
    stop_file: StopFile = None,
    poll: Poll = 10.0,
    wandb: Wandb = None,
    resume_run: ResumeRun = None,
    stop: Stop = None,
    alert: Alert = None,
) -> None:
    """Measure every checkpoint of a run as the run measured itself. An interrupted sweep resumes.

    If the run has a record (`neuronxa/reports.jsonl`), its sentences, probe options, dtype,
    autocast and attention are the defaults. With `--dtype`, the model computes in that dtype,
    without autocast. Checkpoints that were retrained are measured again. With `--watch`, complete
    checkpoints are measured while another process trains.
    """
    from neuronxa_callback.cli.load_model import LoadOptions
    from neuronxa_callback.cli.output import echo
    from neuronxa_callback.show import terminal

    names = option_values.split_names(revisions) or ()
    load_options = LoadOptions(dtype, device, device_map, None, attn, tokenizer, trust_remote_code)
    overrides = option_values.probe_options(corpus, config, languages, n_pairs, metrics, groups)
    for_watch: dict[str, Any] = {"--until-step": until_step, "--stop-file": stop_file}
    for_watch |= {"--wandb": wandb, "--resume-run": resume_run, "--stop": stop, "--alert": alert}
    given = [name for name, value in for_watch.items() if value is not None]
    if not watch:
        if given:
            raise ConfigError(f"{', '.join(given)} can be used with --watch only; add --watch")
        _sweep_once(run, names, overrides, load_options, out, as_json)
        return
    if names:
        raise ConfigError("--watch looks at the folder of a run, --revisions are on the hub")
    if stop and stop_file is None:
        raise ConfigError("--stop writes the verdict of a rule to a file, name it with --stop-file")
    say = partial(echo, err=True) if as_json else terminal.say
    watching = _make_watch(run, overrides, load_options, out, for_watch, poll, say)
    _print_reports(watching.new_reports(), as_json)
    say(f"All reports, one per line: {watching.record}")


def _sweep_once(
    run: str,
    revisions: tuple[str, ...],
    overrides: dict[str, Any],
    load_options: "LoadOptions",
    out: Path | None,
    as_json: bool,
) -> None:
    from neuronxa_callback.cli.checkpoints.folders import find_checkpoints
    from neuronxa_callback.cli.checkpoints.sweep import Sweep, default_record
    from neuronxa_callback.cli.output import echo, echo_json, progress_bar
    from neuronxa_callback.show import probe_line, tables, terminal

    checkpoints = find_checkpoints(run, revisions)
    record = out or default_record(run)
    run_sweep = Sweep(run, checkpoints, overrides, load_options, record)
    reports = []
    with progress_bar(not as_json, f"{len(checkpoints)} checkpoints") as progress:
        for report, is_new in run_sweep.reports(progress):
            reports.append(report)
            if as_json:
                echo_json(report.to_json())
            else:
                terminal.say(probe_line.line(report) + ("" if is_new else " · measured before"))
    if not as_json:
        terminal.show(tables.over_steps(reports))
        echo(f"All reports, one per line: {record}")


def _make_watch(
    run: str,
    overrides: dict[str, Any],
    load_options: "LoadOptions",
    out: Path | None,
    given: dict[str, Any],
    poll: float,
    say: Callable[[str], None],
) -> "Watch":
    import time

    from neuronxa_callback.cli.checkpoints.folders import Checkpoint
    from neuronxa_callback.cli.checkpoints.rule_options import parse_rules
    from neuronxa_callback.cli.checkpoints.sweep import Sweep
    from neuronxa_callback.cli.checkpoints.wandb_publisher import WandbPublisher, WandbRunName
    from neuronxa_callback.cli.checkpoints.watch import Watch, WatchOptions
    from neuronxa_callback.history.records import FOLDER, SWEEP

    record = out or Path(run) / FOLDER / SWEEP
    rules = parse_rules(given["--stop"] or (), given["--alert"] or ())
    name = WandbRunName.parse(given["--wandb"], given["--resume-run"])

    def make_sweep(checkpoints: list[Checkpoint]) -> Sweep:
        return Sweep(run, checkpoints, overrides, load_options, record)

    return Watch(
        Path(run),
        record,
        make_sweep,
        WatchOptions(given["--until-step"], given["--stop-file"], rules),
        wait=partial(time.sleep, poll),
        publisher=None if name is None else WandbPublisher(name, record),
        say=say,
    )


def _print_reports(reports: "Iterable[AlignmentReport]", as_json: bool) -> None:
    from neuronxa_callback.cli.output import echo_json
    from neuronxa_callback.show import probe_line, terminal

    for report in reports:
        if as_json:
            echo_json(report.to_json())
        else:
            terminal.say(probe_line.line(report))
