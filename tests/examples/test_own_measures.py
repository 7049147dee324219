"""docs/extend.md and the examples of measures of one's own: they run, and say the same."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.extend import GROUPS, Metric
from tests.helpers.extend import measures as own
from tests.helpers.runs import SHELL, tokenizer_for
from tests.helpers.tiny import llama

TEXT = (Path(__file__).parents[2] / "docs" / "extend.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
SCRIPTS = ("own_metric", "own_neuron_statistic", "own_diagnostic")


def test_the_blocks_of_the_page_run_in_order(capsys):
    tokenizer = tokenizer_for(ParallelCorpus.builtin(languages=("deu_Latn",)))
    names = {"tokenizer": tokenizer, "model": llama(vocab_size=len(tokenizer))}
    with own.registry():
        for code in BLOCKS:
            exec(compile(code, "extend.md", "exec"), names)
    diagnostics = names["report"].diagnostics
    assert [*diagnostics["never_fires"]] == ["eng_Latn", "deu_Latn"]
    assert len(diagnostics["never_nearest"]["nasca"]["deu_Latn"]) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_prints_its_numbers(name, tmp_path):
    script = [sys.executable, str(own.EXAMPLES / f"{name}.py")]
    done = subprocess.run(
        script, cwd=tmp_path, env=SHELL, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d", done.stdout)


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_example_has_about_twenty_lines_of_code(name):
    tree = ast.parse((own.EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    *measure, script = tree.body[1:]
    assert isinstance(script, ast.If)
    assert sum(each.end_lineno - each.lineno + 1 for each in measure) <= 20


def test_the_page_names_every_group_and_field():
    for group in GROUPS.values():
        assert f'"{group}"' in TEXT
    fields = TEXT.split("| field of `Metric` |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", fields, re.MULTILINE) == [*Metric.__dataclass_fields__]
