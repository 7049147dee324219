"""Cells of a CSV file that a spreadsheet does not run."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a text that begins with one of these."""


def plain_cell(cell: object) -> object:
    """The cell; a text that a spreadsheet would run gets an apostrophe in front of it.

    >>> plain_cell("=1+1"), plain_cell(-0.5), plain_cell("deu_Latn")
    ("'=1+1", -0.5, 'deu_Latn')
    """
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA_STARTS) else cell
