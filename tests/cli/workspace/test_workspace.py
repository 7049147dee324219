"""``neuronxa workspace``, up to the call of W&B's server."""

import json
import re
import sys

import pytest

from tests.helpers.output import wandb_file
from tests.helpers.reports import make_report

ws = pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")
SCORES = {"deu_Latn": 0.4, "zho_Hans": 0.2, "swh": 0.1}


@pytest.fixture
def views(monkeypatch):
    """The views that W&B's server would have got."""
    sent = []

    def upsert(view):
        sent.append(json.loads(view.model_dump_json(by_alias=True, exclude_none=True)))
        return {"upsertView": {"view": {"name": "nw-abc-v", "id": "1"}}}

    module = sys.modules[ws.Workspace.__module__]
    monkeypatch.setattr(module.internal, "upsert_view2", upsert)
    monkeypatch.setattr(module, "get_app_url", lambda api: "https://wandb.test")
    monkeypatch.setattr(module.wandb, "Api", lambda: None)
    return sent


def panels_of(view):
    """title -> configuration of every panel, in order."""
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    assert all(section["isOpen"] for section in sections)
    return {
        panel["config"]["chartTitle"]: panel["config"]
        for section in sections
        for panel in section["panels"]
    }


def logged_keys(folder, monkeypatch, **run):
    """The keys that a real offline run logs for one report."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    wandb_file.log(make_report(5, SCORES, layers=3).with_run(**run))
    (file,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    (row,) = wandb_file.history(file)
    return {key.removesuffix("/path") for key in row}


@pytest.mark.parametrize("name", ["", "held-out"])
def test_every_panel_names_keys_that_a_run_logs(views, neuronxa, tmp_path, monkeypatch, name):
    given = ("--name", name) if name else ()
    code, out, _ = neuronxa("workspace", "team/project", *given)
    assert (code, out) == (0, "https://wandb.test/team/project?nw=abc\n")
    (view,) = views
    assert (view["entity"], view["project"], view["displayName"]) == (
        "team",
        "project",
        "Alignment",
    )
    panels = panels_of(view)
    assert list(panels) == [
        "Loss", "Alignment: mean, and chance", "nasca by language", "navca by language",
        "nasca by layer", "navca by layer",
    ]  # fmt: skip
    keys = logged_keys(tmp_path, monkeypatch, **({"name": name} if name else {}))
    named = panels["Alignment: mean, and chance"]["metrics"]
    named += [
        key for metric in ("nasca", "navca") for key in panels[f"{metric} by layer"]["mediaKeys"]
    ]
    assert len(named) == 3 + 4
    assert set(named) <= keys
    prefix = f"neuronxa/{name}" if name else "neuronxa"
    for metric in ("nasca", "navca"):
        pattern = panels[f"{metric} by language"]["metricRegex"]
        found = {key for key in keys if re.search(pattern, key)}
        assert found == {f"{prefix}/{metric}/{language}" for language in SCORES}
    assert panels["Loss"]["metrics"] == ["train/loss", "eval/loss"]
    axes = {panel["xAxis"] for panel in panels.values() if "xAxis" in panel}
    assert axes == {"train/global_step"}


def test_the_metrics_and_the_title_are_chosen(views, neuronxa):
    options = ("--metrics", "mexa", "--title", "Run 7")
    assert neuronxa("workspace", "team/project", *options)[0] == 0
    assert views[0]["displayName"] == "Run 7"
    assert [title for title in panels_of(views[0]) if "mexa" in title] == [
        "mexa by language", "mexa by layer",
    ]  # fmt: skip


@pytest.mark.parametrize("project", ["project", "team/", "/project", "a/b/c"])
def test_a_project_needs_its_entity(views, neuronxa, project):
    assert neuronxa("workspace", project) == (
        2, "", f"neuronxa: a project must be written as ENTITY/PROJECT, got {project!r}\n",
    )  # fmt: skip
    assert views == []


def test_an_unknown_metric_is_an_error(views, neuronxa):
    code, _, err = neuronxa("workspace", "team/project", "--metrics", "nsca")
    assert code == 2
    assert err.startswith("neuronxa: unknown metric: 'nsca'; did you mean 'nasca' or 'navca'?")
    assert views == []


def test_what_the_server_refuses_is_one_sentence(views, neuronxa, monkeypatch):
    def refuse(view):
        raise ValueError("entity team\nnot found")

    monkeypatch.setattr(sys.modules[ws.Workspace.__module__].internal, "upsert_view2", refuse)
    assert neuronxa("workspace", "team/project") == (
        2, "",
        "neuronxa: W&B did not save a workspace in 'team/project': entity team not found\n",
    )  # fmt: skip


def test_without_the_package_the_error_says_what_to_install(neuronxa, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    assert neuronxa("workspace", "team/project") == (
        2, "",
        "neuronxa: a workspace needs wandb-workspaces; pip install wandb-workspaces\n",
    )  # fmt: skip
