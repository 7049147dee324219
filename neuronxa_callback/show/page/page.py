"""One HTML file that shows runs: emergence, curves by layer, heat map, table, diagnostics.

It loads nothing: scripts, styles and data stand in the file, and its policy forbids the rest.
Only the scripts written here run, by their hashes, and text from a report never becomes markup.
"""

import base64
import hashlib
import html
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from neuronxa_callback._version import __version__
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.show.page.data import Runs, pack

FIRST = ("data.js", "look.js")
"""They stand before plotly: data unpack while plotly, which is large, is read."""
OTHERS = ("charts.js", "tables.js", "page.js")
TITLE = "Cross-lingual alignment"


def write_page(runs: Runs, path: Path, title: str = TITLE, notes: Sequence[str] = ()) -> None:
    """Write ``page`` to a file.

    Args:
        runs: Name -> reports by step. The first run's metrics come first.
        path: The HTML file; its folder must exist.
        title: Of the page.
        notes: Sentences to show above all, such as which lines of a file could not be read.

    Raises:
        ConfigError: If there is nothing to show, or plotly is missing.
        FingerprintError: If the reports of one run do not measure the same thing.
    """
    path.write_text(page(runs, title, notes), encoding="utf-8", newline="\n")


def page(runs: Runs, title: str = TITLE, notes: Sequence[str] = ()) -> str:
    """The whole file as text; see ``write_page``."""
    scripts = [*map(_file, FIRST), _plotly(), *map(_file, OTHERS)]
    parts = {
        "policy": _policy(scripts),
        "title": html.escape(title),
        "style": _file("page.css"),
        "data": pack(runs, notes),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        "version": html.escape(__version__),
    }
    first, *others = _file("page.html").split("{{")
    # One pass: what a part holds is never looked at again, whatever it spells.
    return first + "".join(parts[name] + rest for name, rest in _marks(others))


def _marks(pieces: Sequence[str]) -> list[tuple[str, str]]:
    marks = [piece.partition("}}") for piece in pieces]
    return [(name.strip(), rest) for name, _, rest in marks]


def _policy(scripts: Sequence[str]) -> str:
    """Nothing from anywhere, and of scripts those in this file only."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _plotly() -> str:
    """Plotly's own script; browsers hash it with plain line ends."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError(
            "the page needs plotly, which is missing here: pip install 'neuronxa_callback[page]'"
        ) from None
    script = str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _file(name: str) -> str:
    return resources.files("neuronxa_callback.show.page").joinpath(name).read_text(encoding="utf-8")
