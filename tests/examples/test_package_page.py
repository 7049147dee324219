"""The page of the package index: what hatchling makes of README.md."""

import importlib.util
import re

import pytest

from tests.helpers.documents import PAGES, ROOT

pytest.importorskip("hatchling", reason="hatchling is not installed")
README = PAGES["README.md"]


def loaded():
    spec = importlib.util.spec_from_file_location("package_page", ROOT / "docs/package_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def targets(text):
    return re.findall(r"\]\(([^)\s]+)\)", text)


def test_without_an_address_relative_links_are_plain_words():
    page, near = loaded().package_page(README), [t for t in targets(README) if "://" not in t]
    assert len(near) > 10
    assert all(target.startswith("https://") for target in targets(page))
    assert "| faq | " in page
    assert "![" not in page
    assert page.endswith("most of them in `docs/`.\n")


def test_with_an_address_every_link_leads_to_the_repository():
    home = "https://example.org/team/project"
    page = loaded().package_page(README, f"{home}/")
    for old, new in zip(targets(README), targets(page), strict=True):
        kind = "raw" if old.endswith(".png") else "blob"
        assert new == (old if "://" in old else f"{home}/{kind}/main/{old}")
        assert "://" in old or (ROOT / old.partition("#")[0]).exists()


def test_hatchling_takes_that_page():
    from hatchling.metadata.core import ProjectMetadata
    from hatchling.plugin.manager import PluginManager

    core = ProjectMetadata(str(ROOT), PluginManager()).core
    assert core.readme_content_type == "text/markdown"
    assert core.readme == loaded().package_page(README)
    assert core.urls == {"Paper": "https://aclanthology.org/2025.acl-long.1406"}
