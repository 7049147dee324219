"""The workspace: the loss above alignment, one line per language, curve and heat map by layer."""

import re
from collections.abc import Sequence
from typing import Any

from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show.pictures import PICTURES

STEP = "train/global_step"
LOSSES = ("train/loss", "eval/loss")
LANGUAGE = r"[a-z]{2,3}([_-][A-Za-z0-9]+)*"
"""Codes of languages; ``mean``, ``early``, ``middle``, ``late`` and ``peak`` are none."""


def make_workspace(
    entity: str, project: str, metrics: Sequence[str], title: str, name: str = ""
) -> Any:
    """A ``wandb_workspaces`` workspace that is not saved yet.

    Args:
        entity: The user or team.
        project: The project.
        metrics: The metrics that the runs log, such as ``nasca``; the first comes first.
        title: The name of the workspace in W&B.
        name: The ``name=`` of the callback, a part of its keys.

    Raises:
        ConfigError: If ``wandb-workspaces`` is not installed.
    """
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError:
        raise ConfigError(
            "a workspace needs wandb-workspaces; pip install wandb-workspaces"
        ) from None
    prefix, charts = (
        f"{root}/{name}" if name else root for root in ("neuronxa", "neuronxa_charts")
    )
    sections = [
        ws.Section(
            name="Loss and alignment",
            panels=_loss_above_alignment(prefix, metrics),
            is_open=True,
            pinned=True,
            layout_settings=ws.SectionLayoutSettings(columns=1, rows=2),
        ),
        ws.Section(
            name="Languages",
            panels=[_languages(prefix, metric) for metric in metrics],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=1, rows=len(metrics)),
        ),
        ws.Section(
            name="Layers",
            panels=[_pictures(charts, metric) for metric in metrics],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=1, rows=len(metrics)),
        ),
    ]
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections)


def save(workspace: Any) -> str:
    """Save a workspace to W&B and return its address.

    Raises:
        ConfigError: If W&B does not take it, with the reason that W&B gives.
    """
    try:
        return str(workspace.save().url)
    except Exception as cause:  # errors of wandb, of its server and of the network
        reason = " ".join(str(cause).split()) or type(cause).__name__
        place = f"{workspace.entity}/{workspace.project}"
        raise ConfigError(f"W&B did not save a workspace in {place!r}: {reason}") from cause


def _loss_above_alignment(prefix: str, metrics: Sequence[str]) -> list[Any]:
    import wandb_workspaces.reports.v2 as panels

    means = [f"{prefix}/{metric}/mean" for metric in metrics]
    chance = f"{prefix}/{metrics[0]}/chance"
    return [
        panels.LinePlot(title="Loss", x=STEP, y=list(LOSSES)),
        panels.LinePlot(title="Alignment: mean, and chance", x=STEP, y=[*means, chance]),
    ]


def _languages(prefix: str, metric: str) -> Any:
    import wandb_workspaces.reports.v2 as panels

    keys = f"^{re.escape(f'{prefix}/{metric}/')}{LANGUAGE}$"
    return panels.LinePlot(title=f"{metric} by language", x=STEP, metric_regex=keys)


def _pictures(prefix: str, metric: str) -> Any:
    """The pictures of a metric side by side, with a slider over steps."""
    import wandb_workspaces.reports.v2 as panels

    keys = [f"{prefix}/{metric}_{picture}" for picture in PICTURES]
    return panels.MediaBrowser(
        title=f"{metric} by layer", media_keys=keys, num_columns=len(keys), gallery_axis="step"
    )
