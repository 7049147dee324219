"""The README and the pages of ``docs/``: their text, code blocks, links and tables."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")))
}
BLOCK = re.compile(r"^(`{3,})(\S*)\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


def blocks(text, language):
    """The code blocks of a page in one language."""
    return [code for _, name, code in BLOCK.findall(text) if name == language]


def prose(text):
    """A page without its code blocks and code words."""
    return re.sub(r"`[^`\n]*`", "", BLOCK.sub("", text))


def shell_lines(text):
    """The words of every line of the shell blocks; comments and ``NAME=value`` are left out."""
    lines = (
        shlex.split(line, comments=True)
        for block in blocks(text, "bash")
        for line in block.splitlines()
    )
    for words in lines:
        command = [word for word in words if not re.match(r"[A-Z]+=", word)]
        if command:
            yield command


def anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    for heading in re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        yield words.replace(" ", "-")


def links(text):
    """(file, anchor) of every link and image that is not an address; either may be empty."""
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(text)):
        if "://" not in link:
            file, _, anchor = link.partition("#")
            yield file, anchor


def first_column(text, heading):
    """The code words in the first column of the table below a heading."""
    section = re.split(rf"^## {heading}$", text, flags=re.MULTILINE)[1].split("\n## ")[0]
    return [
        name
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    ]
