"""The notebook runs from top to bottom, cell by cell, on a tiny model."""

import json
import re
from pathlib import Path

import pytest

from neuronxa_callback import ParallelCorpus, read_reports
from tests.helpers.runs import tokenizer_for
from tests.helpers.tiny import llama

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "gemma.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = [
    "".join(line for line in cell["source"] if not line.startswith("%"))
    for cell in CELLS
    if cell["cell_type"] == "code"
]
"""The code cells without their magics."""


@pytest.fixture
def model(tmp_path):
    """The folder of a tiny model whose tokenizer knows the built-in sentences."""
    tokenizer = tokenizer_for(ParallelCorpus.builtin())
    llama(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_cell_of_the_notebook_runs(model, tmp_path, monkeypatch, capsys):
    pytest.importorskip("plotly", reason="plotly is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NEURONXA_MODEL", str(model))
    monkeypatch.setenv("NEURONXA_OUT", "out")
    monkeypatch.setenv("NEURONXA_STEPS", "10")
    assert len(CODE) > 6
    names = {}
    for number, code in enumerate(CODE):
        exec(compile(code, f"cell {number}", "exec"), names)
    report, printed = names["report"], capsys.readouterr().out
    for language in report.languages:
        assert f"{language}  {report.score('nasca', language):.3f} [" in printed
    # What the cell about pairs counts is what the score is made of.
    counts, layers = names["counts"], len(report.layers("nasca"))
    share = sum(counts) / (layers * report.n_pairs)
    assert share == pytest.approx(report.score("nasca", names["language"]))
    assert [each.step for each in read_reports("out")] == [0, 5, 10]
    assert (tmp_path / "out/alignment.png").read_bytes().startswith(b"\x89PNG")
    assert "</html>" in (tmp_path / "out/alignment.html").read_text(encoding="utf-8")


def test_the_outputs_name_no_place_of_a_machine():
    outputs = [json.dumps(cell["outputs"]) for cell in CELLS if cell["cell_type"] == "code"]
    assert re.search(r"(?<![\w.])/(tmp|home|root|usr|mnt)/", "".join(outputs)) is None
