"""What the examples of measures of one's own share: a small model that is probed once."""

from typing import Any

import torch

from accelerate_loop import byte_tokenizer
from neuronxa_callback import AlignmentReport, Probe, ProbeConfig
from plain_loop import GPT


def probe_a_small_model(**options: Any) -> AlignmentReport:
    """The report of a random GPT on bytes, with some options of ``ProbeConfig``."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    config = ProbeConfig(languages=("deu_Latn", "swh_Latn"), n_pairs=20, **options)
    return Probe(config, tokenizer).run(GPT(len(tokenizer)))
