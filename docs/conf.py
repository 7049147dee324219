"""Settings of the documentation; ``make docs`` builds it, with warnings as errors."""

import re
import tempfile
import zlib
from pathlib import Path

from sphinx.application import Sphinx

from neuronxa_callback import __version__

project = "neuronxa_callback"
author = "the authors of neuronxa_callback"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.intersphinx",
]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
html_theme = "furo"
html_title = f"neuronxa_callback {version}"
html_copy_source = False

EXTERNAL = {
    "python": (
        "https://docs.python.org/3/",
        {
            "pathlib.Path": ("class", "library/pathlib.html"),
            "collections.abc.Callable": ("class", "library/collections.abc.html"),
            "collections.abc.Iterable": ("class", "library/collections.abc.html"),
            "collections.abc.Mapping": ("class", "library/collections.abc.html"),
            "collections.abc.Sequence": ("class", "library/collections.abc.html"),
            "typing.Any": ("data", "library/typing.html"),
        },
    ),
    "torch": (
        "https://docs.pytorch.org/docs/stable/",
        {
            "torch.Tensor": ("class", "tensors.html"),
            "torch.nn.Module": ("class", "generated/torch.nn.Module.html"),
        },
    ),
}
"""Names of other projects that signatures link to, written here: no build needs a network."""


def write_inventory(name: str, entries: dict[str, tuple[str, str]]) -> str:
    """Write names as a Sphinx inventory and return its path."""
    head = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
    head += "# The remainder of this file is compressed using zlib.\n"
    lines = "".join(f"{key} py:{kind} 1 {page}#$ -\n" for key, (kind, page) in entries.items())
    file = Path(tempfile.mkdtemp()) / f"{name}.inv"
    file.write_bytes(head.encode() + zlib.compress(lines.encode()))
    return str(file)


intersphinx_mapping = {
    name: (address, write_inventory(name, entries)) for name, (address, entries) in EXTERNAL.items()
}


def name_files_outside(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace links to files outside of the documentation by their names."""
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", source[0])


def setup(app: Sphinx) -> None:
    """Connect the changes of the sources."""
    app.connect("source-read", name_files_outside)
