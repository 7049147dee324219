"""One HTML file that shows runs: score over steps, curve by layer, heat map, tables.

The file holds its scripts, styles and data, and its content security policy forbids all requests.
Only these scripts may run (the policy has their hashes); text from a report never becomes markup.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from neuronxa_callback._version import __version__
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.history.agreement import Agreements
from neuronxa_callback.show.page.data import Runs, pack
from neuronxa_callback.show.page.panels.pairs import Sentences
from neuronxa_callback.show.page.panels.run_groups import RunGroups
from neuronxa_callback.whole_file import whole_file

BEFORE_PLOTLY = ("data.js", "style.js")
"""Scripts placed before plotly, so that the data unpack while the browser parses plotly."""
PANEL_SCRIPTS = ("neurons.js", "pairs.js", "matrix.js", "run_groups.js", "scatter.js")
"""In ``panels/``, in the order on the page."""
AFTER_PLOTLY = (
    "difference.js",
    "charts.js",
    "layers.js",
    "tables.js",
    "diagnostics.js",
    "download.js",
    "panels.js",
    *(f"panels/{name}" for name in PANEL_SCRIPTS),
    "address.js",
    "texts.js",
    "controls.js",
    "themes.js",
    "page.js",
)
TITLE = "Cross-lingual alignment"


def write_page(
    runs: Runs,
    path: str | Path,
    title: str = TITLE,
    notes: Sequence[str] = (),
    run_groups: RunGroups | None = None,
    agreements: Agreements | None = None,
    sentences: Mapping[str, Sentences] | None = None,
) -> None:
    """Write one HTML file that shows runs and needs no network.

    Args:
        runs: name -> reports, sorted by step. The metrics of the first run come first.
        path: The HTML file; its folder must exist.
        title: The title of the page.
        notes: Sentences to show at the top, such as the lines of a file that are unreadable.
        run_groups: Name of a group, such as the seeds of one recipe -> names of its runs.
        agreements: Correlations with downstream scores, as ``history.agreement.correlate`` returns
            them.
        sentences: Name of a run -> language -> the pairs of sentences that it measured; the page
            then shows them, and whoever has the page can read them.

    Raises:
        ConfigError: If a run has no report, a group fewer than 2 runs, or plotly is not installed.
        FingerprintError: If the reports of one run or group do not measure the same thing.

    Example::

        from neuronxa_callback import read_reports
        from neuronxa_callback.show.page.page import write_page

        write_page({"mine": read_reports("runs/mine")}, "alignment.html")
    """
    text = page(runs, title, notes, run_groups, agreements, sentences)
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def page(
    runs: Runs,
    title: str = TITLE,
    notes: Sequence[str] = (),
    run_groups: RunGroups | None = None,
    agreements: Agreements | None = None,
    sentences: Mapping[str, Sentences] | None = None,
) -> str:
    """The HTML as text; see ``write_page``."""
    scripts = [*map(_asset, BEFORE_PLOTLY), _plotly(), *map(_asset, AFTER_PLOTLY)]
    parts = {
        "policy": _policy(scripts),
        "title": html.escape(title),
        "style": _asset("page.css"),
        "data": pack(runs, notes, run_groups, agreements, sentences),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
        "version": html.escape(__version__),
    }
    # One pass over the template, so that a part that contains "{{" is not filled in again.
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: parts[match[1]], _asset("page.html"))


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: no requests, and no scripts but these."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline';"
        " img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _plotly() -> str:
    """The script of plotly, with the line ends that browsers hash."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise ConfigError(
            "the page needs plotly, which is not installed: pip install plotly"
        ) from None
    script = str(get_plotlyjs()).replace("\r\n", "\n").replace("\r", "\n")
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _asset(name: str) -> str:
    file = resources.files("neuronxa_callback.show.page").joinpath(*name.split("/"))
    return file.read_text(encoding="utf-8")
