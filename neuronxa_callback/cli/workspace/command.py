"""The command ``neuronxa workspace``."""

from typing import Annotated

import typer

from neuronxa_callback.cli import option_values, options
from neuronxa_callback.cli.commands import app, examples
from neuronxa_callback.errors import ConfigError, unknown

Project = Annotated[str, typer.Argument(help="ENTITY/PROJECT of W&B.")]
Title = Annotated[str, typer.Option(help="The name of the workspace.")]
CallbackName = Annotated[str, typer.Option(help="The `name=` of the callback, if it has one.")]


@app.command(
    epilog=examples(
        "neuronxa workspace my-team/my-project",
        "neuronxa workspace my-team/my-project --metrics nasca",
    )
)
def workspace(
    project: Project,
    metrics: options.Metrics = None,
    title: Title = "Alignment",
    name: CallbackName = "",
) -> None:
    """Save a workspace in W&B: loss above alignment, languages, curve and heat map by layer."""
    from neuronxa_callback.cli.output import echo
    from neuronxa_callback.cli.workspace.panels import make_workspace, save
    from neuronxa_callback.config import ProbeConfig
    from neuronxa_callback.metrics.registry import ALIGNMENT
    from neuronxa_callback.show.sink_group import check_name

    entity, _, project_name = project.partition("/")
    if not (entity and project_name) or "/" in project_name:
        raise ConfigError(f"a project must be written as ENTITY/PROJECT, got {project!r}")
    chosen = option_values.split_names(metrics) or ProbeConfig().metrics
    for metric in chosen:
        if metric not in ALIGNMENT:
            raise ConfigError(unknown("metric", metric, ALIGNMENT))
    echo(save(make_workspace(entity, project_name, chosen, title, check_name(name))))
