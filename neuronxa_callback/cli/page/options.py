"""The options of ``neuronxa page``."""

from pathlib import Path
from typing import Annotated

import typer

RunsOrGroups = Annotated[
    list[str] | None,
    typer.Argument(help="Folders of runs, or JSONL files of reports.", show_default=False),
]
PageGroups = Annotated[
    list[str] | None,
    typer.Option(help="Runs of one recipe, such as `A=runs/a*`: their mean and their spread."),
]
PageScores = Annotated[
    Path | None,
    typer.Option(help="Downstream scores per language, a file as in `neuronxa correlate`."),
]
PageFile = Annotated[Path, typer.Option("--out", "-o", help="The HTML file.", dir_okay=False)]
