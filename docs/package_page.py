"""README.md as the page of the package index shows it; hatchling runs this when it builds.

The index shows one page, without the files of the repository: relative links would be dead. With
``source`` (in ``pyproject.toml``) they become links to the repository, without it plain words.
"""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:)([^)\s]+)\)")
"""A link or picture that does not name a server."""
WHERE = (
    "\n\nPages that are named without a link are in the source archive, most of them in `docs/`.\n"
)


def package_page(readme: str, source: str = "") -> str:
    """The text of README.md without relative links.

    Args:
        readme: The text.
        source: The address of the repository, such as ``https://example.org/team/project``; empty
            if it is not known.
    """
    base = source.rstrip("/")
    if base:
        return LINK.sub(lambda m: f"{m[1]}[{m[2]}]({base}/{_kind(m[1])}/main/{m[3]})", readme)
    words = LINK.sub(lambda m: "" if m[1] else m[2], readme)
    return re.sub(r"\n{3,}", "\n\n", words).rstrip() + WHERE


def _kind(picture: str) -> str:
    return "raw" if picture else "blob"


class PackagePage(MetadataHookInterface):
    """Gives the package its long description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = package_page(text, self.config.get("source", ""))
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
