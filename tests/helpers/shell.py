"""Run ``neuronxa`` in this process, and the languages and options that its tests share."""

import sys

import pytest

from neuronxa_callback import ProbeConfig
from neuronxa_callback.cli import main

LANGUAGES = ("deu_Latn", "fra_Latn")
CONFIG = ProbeConfig(languages=LANGUAGES, n_pairs=10, batch_tokens=512)
OPTIONS = ("--languages", "de,French", "--n-pairs", "10")


def neuronxa(monkeypatch, capsys):
    """A fixture: a function that runs ``neuronxa ARGUMENTS`` -> (exit code, stdout, stderr)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuronxa", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ending:
            main()
        output = capsys.readouterr()
        return ending.value.code or 0, output.out, output.err

    return run


def is_hub_error(result):
    """Whether a command printed only one sentence: why the hub did not provide the model."""
    code, out, err = result
    start = (
        "neuronxa: a model must be a folder or a name on the hub that can be loaded, "
        "got 'no-such/model': "
    )
    one_line = err.startswith(start) and err.count("\n") == 1
    return (code, out) == (2, "") and one_line and "huggingface.co" in err
