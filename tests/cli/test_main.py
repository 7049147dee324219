"""The program: its help, the installed entry point, unexpected errors."""

import subprocess
import sys
from pathlib import Path

import pytest

from neuronxa_callback import __version__, read_reports
from neuronxa_callback.cli import neuron_commands
from tests.helpers.reports import make_report
from tests.helpers.runs import SHELL

ROOT = Path(__file__).parents[2]
COMMANDS = (
    "score",
    "sweep",
    "compare",
    "correlate",
    "card",
    "page",
    "picture",
    "check",
    "neurons",
    "pairs",
    "taps",
    "languages",
    "workspace",
)


def test_an_unexpected_error_is_one_sentence_and_exits_with_2(neuronxa, monkeypatch):
    def broken():
        raise LookupError("no such\nthing")

    monkeypatch.setattr(neuron_commands, "app", broken)
    assert neuronxa("languages") == (
        2,
        "",
        "neuronxa: unexpected LookupError, please report it: no such thing;"
        " python -X dev -m neuronxa_callback shows where\n",
    )


def test_a_file_that_cannot_be_used_is_named(neuronxa, monkeypatch, tmp_path):
    monkeypatch.setattr(neuron_commands, "app", lambda: (tmp_path / "none" / "a").open("w"))
    message = f"neuronxa: cannot use {tmp_path / 'none' / 'a'}: No such file or directory\n"
    assert neuronxa("languages") == (2, "", message)


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


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_the_short_option_shows_the_same_help(command, neuronxa):
    arguments = [command] if command else []
    assert neuronxa(*arguments, "-h") == neuronxa(*arguments, "--help")
    assert neuronxa(*arguments, "-h")[0] == 0


def test_the_version_is_printed(neuronxa):
    assert neuronxa("--version") == (0, f"neuronxa {__version__}\n", "")


@pytest.mark.parametrize("command", ["page", "picture"])
def test_an_output_is_whole_or_as_before(neuronxa, tmp_path, monkeypatch, command):
    pytest.importorskip("plotly", reason="plotly is not installed")
    record = tmp_path / "reports.jsonl"
    record.write_text("".join(make_report(k).to_json() + "\n" for k in (0, 10)))
    out = tmp_path / ("a.html" if command == "page" else "a.svg")
    assert neuronxa(command, record, "-o", out) == (0, f"{out}\n", "")
    whole = out.read_bytes()
    assert b"</html>" in whole or b"</svg>" in whole

    def stop_inside(path, *_, **__):
        path.open("w").write("half")
        raise OSError(28, "No space left on device")

    target = "pathlib.Path.write_text" if command == "page" else "matplotlib.figure.Figure.savefig"
    monkeypatch.setattr(target, lambda *args, **_: stop_inside(args[command == "picture"]))
    code, _, err = neuronxa(command, record, "-o", out)
    assert (code, err) == (2, f"neuronxa: cannot write {out}: No space left on device\n")
    assert out.read_bytes() == whole
    assert {file.name for file in tmp_path.iterdir()} == {"reports.jsonl", out.name}


def test_a_picture_of_a_run_and_its_errors(neuronxa, tmp_path):
    record = tmp_path / "reports.jsonl"
    record.write_text("".join(make_report(k).to_json() + "\n" for k in (0, 10)))
    assert neuronxa("picture", record, "-o", tmp_path / "a.png")[0] == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    titles = []
    for flags in ((), ("--heat-map",)):
        assert neuronxa("picture", record, "-o", tmp_path / "a.svg", *flags)[0] == 0
        titles.append("<!-- layer -->" in (tmp_path / "a.svg").read_text())
        titles.append("<!-- loss -->" in (tmp_path / "a.svg").read_text())
    assert titles == [True, True, True, False]
    for arguments, words in (
        ((record, "-o", tmp_path / "a.doc"), "must end in .png, .svg or .pdf"),
        ((record, "--metric", "nasa", "-o", tmp_path / "a.png"), "nasa"),
        ((tmp_path / "none",), "a run must be"),
    ):
        code, _, err = neuronxa("picture", *arguments)
        assert code == 2
        assert words in err


def test_many_lines_that_are_left_out_are_five_and_a_count(neuronxa, tmp_path):
    record = tmp_path / "reports.jsonl"
    record.write_text("no report\n" * 1000 + make_report(3).to_json() + "\n")
    _, _, err = neuronxa("compare", record, record)
    lines = err.splitlines()[:6]
    assert [line.split(" is left out")[0] for line in lines[:5]] == [
        f"neuronxa: {record}:{number}" for number in range(1, 6)
    ]
    assert lines[5] == "neuronxa: 995 more lines are left out, for reasons like these"
    assert err.count("left out") == 12


TRAIN = """
import sys
for name in ("matplotlib", "typer", "plotly", "wandb", "tensorboard"):
    sys.modules[name] = None
from tests.helpers.runs import train_with
train_with("none", sys.argv[1], report_to="none")
"""


def test_the_callback_needs_no_optional_part(tmp_path):
    command = [sys.executable, "-c", TRAIN, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=SHELL)
    assert done.returncode == 0, done.stderr
    assert [report.step for report in read_reports(tmp_path)] == [0, 2, 4, 6]


def test_the_source_archive_has_what_a_developer_needs():
    builders = pytest.importorskip("hatchling.builders.sdist", reason="hatchling is not installed")
    builder = builders.SdistBuilder(str(ROOT))
    files = {file.distribution_path for file in builder.recurse_included_files()}
    needed = {"CHANGELOG.md", "CONTRIBUTING.md", "Makefile", "constraints.txt"}
    # hatchling adds README, LICENSE and pyproject.toml itself.
    assert needed | {"tests/cli/test_main.py"} <= files
    configs = [file for file in (ROOT / "configs").rglob("*") if file.is_file()]
    assert {file.relative_to(ROOT).as_posix() for file in configs} <= files
