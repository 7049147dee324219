"""Run Python code in a pseudo-terminal, and what a person then sees."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import textwrap
from dataclasses import dataclass, field

from tests.helpers.runs import SHELL

TOKENS = re.compile("\x1b\\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)


@dataclass
class Screen:
    """A terminal of some columns, without a limit of rows."""

    columns: int
    cells: list[list[str]] = field(default_factory=lambda: [[]])
    wrapped: set[int] = field(default_factory=set)
    """Rows that begin inside a line, because it was too long."""
    row: int = 0
    column: int = 0

    def write(self, text):
        for number, command, letter in TOKENS.findall(text):
            if command:
                self._control(int(number) if number.isdigit() else 1, command)
            elif letter == "\r":
                self.column = 0
            elif letter == "\n":
                self._down()
            elif letter >= " ":
                self._put(letter)

    @property
    def rows(self):
        return ["".join(row).rstrip() for row in self.cells]

    def _control(self, number, command):
        if command == "A":
            self.row = max(0, self.row - number)
        elif command == "K":
            del self.cells[self.row][self.column :]

    def _down(self):
        self.row += 1
        if self.row == len(self.cells):
            self.cells.append([])

    def _put(self, letter):
        if self.column == self.columns:
            self.column = 0
            self._down()
            self.wrapped.add(self.row)
        row = self.cells[self.row]
        row.extend(" " * (self.column + 1 - len(row)))
        row[self.column] = letter
        self.column += 1


def screen_of(code, *arguments, columns=80):
    """The screen after ``python -c code`` has run in a terminal; and all that was written."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {k: v for k, v in SHELL.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *map(str, arguments)]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, env={**env, "TERM": "xterm"}, **streams) as process:
        os.close(theirs)
        written = b""
        while piece := _read(ours):
            written += piece
    os.close(ours)
    text = written.decode()
    assert process.returncode == 0, text
    screen = Screen(columns)
    screen.write(text)
    return screen, text


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:
        # Linux reports the end of a terminal like this.
        return b""
