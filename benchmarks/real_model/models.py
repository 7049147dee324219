"""The model and its tokenizer, and results that are kept as lines of JSON."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def load(folder, dtype):
    """(model in eval mode, tokenizer) of a folder, on one thread."""
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))
    return model.eval(), AutoTokenizer.from_pretrained(folder)


def kept_rows(path):
    """The rows of a file of JSON lines; none if there is no file."""
    path = Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(path, row):
    """Appends a row to a file of JSON lines."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
