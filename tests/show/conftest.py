"""A browser and pages for the tests of the page."""

import pytest

from neuronxa_callback.show.page.page import write_page
from tests.helpers import browser
from tests.helpers.pages import rising


@pytest.fixture(scope="session")
def chromium():
    """One browser for all tests."""
    if browser.find() is None:
        pytest.skip("no Chromium here (`apt-get install chromium`)")
    with browser.Browser() as started:
        yield started


@pytest.fixture
def tab(chromium):
    """The tab of the browser, with the default size and theme and nothing stored."""
    chromium.resize(1400, 1000)
    chromium.prefer("light")
    chromium.forget()
    return chromium


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="session")
def one(folder):
    """The page of one run."""
    write_page({"main": rising()}, folder / "one.html", title="A run")
    return folder / "one.html"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Offline W&B in a folder of its own; returns the path of the k-th run's file."""
    import wandb

    # W&B reads the environment once in a process: a test before this one may have made it do so.
    wandb.teardown()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    yield lambda k=0: sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))[k]
    wandb.teardown()
