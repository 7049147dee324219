"""The program: its help, the installed entry point, unexpected errors."""

import subprocess
import sys

import pytest

from neuronxa_callback.cli import neuron_commands
from tests.helpers.runs import SHELL

COMMANDS = ("score", "sweep", "compare", "correlate", "card", "page", "check", "taps", "languages")


def test_an_unexpected_error_is_one_sentence_and_exits_with_2(neuronxa, monkeypatch):
    def broken():
        raise LookupError("no such\nthing")

    monkeypatch.setattr(neuron_commands, "app", broken)
    assert neuronxa("languages") == (2, "", "neuronxa: LookupError: no such thing\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(command, neuronxa):
    code, out, _ = neuronxa(command, "--help")
    assert code == 0
    assert f"neuronxa {command}" in out
    assert "Examples" in out


def test_the_program_lists_its_commands_in_a_fresh_process(tmp_path):
    command_line = [sys.executable, "-m", "neuronxa_callback", "--help"]
    done = subprocess.run(
        command_line, capture_output=True, text=True, timeout=60, cwd=tmp_path, env=SHELL
    )
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in COMMANDS)
