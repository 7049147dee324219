"""``neuronxa card``: a report as a part of a model card."""

from pathlib import Path

from neuronxa_callback.cli.output import echo
from neuronxa_callback.cli.run_record import select_report
from neuronxa_callback.show.model_card import card_block, write_card


def make_card(report: str, out: Path | None, model_name: str | None) -> None:
    """Print the block of a report, or put it into a card.

    Raises:
        ConfigError: If there is no such report, or the file is no model card.
    """
    selected = select_report(report)
    if out is None:
        echo(card_block(selected))
        return
    write_card(out, selected, model_name or out.resolve().parent.name)
    echo(str(out))
