"""The Python block of docs/neurons.md runs, and the page names every statistic."""

import re
from pathlib import Path

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.metrics.registry import NEURON_STATISTICS
from tests.helpers.runs import tokenizer_for
from tests.helpers.tiny import llama

TEXT = (Path(__file__).parents[2] / "docs" / "neurons.md").read_text(encoding="utf-8")


def test_the_example_gives_every_statistic(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    tokenizer = tokenizer_for(ParallelCorpus.builtin(languages=("deu_Latn", "swh_Latn")))
    names = {"tokenizer": tokenizer, "model": llama(vocab_size=len(tokenizer))}
    exec(compile(code, "neurons.md", "exec"), names)
    assert set(NEURON_STATISTICS) <= set(names["report"].diagnostics)
    assert capsys.readouterr().out.count("[") == 3


def test_the_page_has_a_row_for_every_statistic():
    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)) == {*NEURON_STATISTICS}
