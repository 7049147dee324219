"""Every Python block of the README runs, in order, with a small model."""

import re
from pathlib import Path

import pytest
from conftest import llama, tokenizer_of

from neuronxa_callback import ParallelCorpus

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


@pytest.mark.filterwarnings("ignore")
def test_the_blocks_run(tmp_path, monkeypatch):
    assert len(BLOCKS) >= 5
    monkeypatch.chdir(tmp_path)
    corpus = ParallelCorpus.builtin()
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    tokenizer = tokenizer_of(texts, vocab_size=2000)
    rows = [
        {"input_ids": ids, "labels": ids}
        for ids in (tokenizer(text)["input_ids"][:8] for text in texts[:40])
        if len(ids) == 8
    ]
    names = {
        "model": llama(vocab_size=2000),
        "tokenizer": tokenizer,
        "train_dataset": rows,
        "eval_dataset": rows[:8],
    }
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert (tmp_path / "out" / "neuronxa" / "reports.jsonl").exists()
    assert 0 <= names["report"].score("nasca") <= 1


def test_what_it_links_to_is_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) >= 4
    for link in links:
        assert (ROOT / link).exists(), link
