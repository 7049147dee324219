"""Bits per sentence and per character of the probe's own sentences, by the package's diagnostic."""

from types import SimpleNamespace

import models
import torch

from neuronxa_callback import ProbeConfig
from neuronxa_callback.probe.batching import collate
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.forward import Forward
from neuronxa_callback.probe.loss.measure import loss
from neuronxa_callback.probe.tokenization import SentenceTokenizer, padding_id, tokenize

AT_ONCE = 8
"""Languages between two writes of the file."""


@torch.no_grad()
def bits(model, tokenizer, corpus, languages, n_pairs):
    """language -> side -> bits per sentence and per character."""
    config = ProbeConfig(corpus=corpus, languages=languages, n_pairs=n_pairs)
    pairs = config.load()
    sentences = SentenceTokenizer(tokenizer, config, pairs)
    tokenized = tokenize(pairs, n_pairs, sentences, config.max_length)
    pad = padding_id(model, sentences.pad)
    shortest = min(tokenized.sentences.values(), key=lambda each: len(each.ids))
    context = SimpleNamespace(
        forward=Forward(model, "encoder", hidden=False),
        world=World(),
        device=torch.device("cpu"),
        dummy=collate([shortest], pad),
        pad=pad,
    )
    return loss(context, tokenized, ("loss",), config.batch_tokens)["loss"]["languages"]


def run(folder, corpus, languages, out, dtype, n_pairs):
    """Runs some languages at a time; what is in the file already is not run again."""
    model, tokenizer = models.load(folder, dtype)
    kept = {row["language"] for row in models.kept_rows(out)}
    missing = [name for name in languages if name not in kept]
    for first in range(0, len(missing), AT_ONCE):
        found = bits(model, tokenizer, corpus, missing[first : first + AT_ONCE], n_pairs)
        for language, sides in found.items():
            models.keep(out, {"language": language, "pairs": n_pairs, **sides})
        print("bits of", *found, flush=True)
