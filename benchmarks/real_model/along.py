"""Alignment and what it should predict along a run: a rise, a fall, and a model that rests.

- ``rise``: the input embeddings of the tokens that only one middling language has are damaged, and
  training on that language repairs them.
- ``fall``: training on English alone, at a high learning rate; the embeddings rest.
- ``mild``: the same at a lower learning rate; the kept run ends after 48 of its steps.
- ``nothing``: no training.

At every checkpoint, in six languages: NASCA, NAVCA and MEXA on two halves of the probe's lines (no
choice looks at the second, *held out*), bits per sentence, and topic transfer.
"""

import copy
from dataclasses import replace
from pathlib import Path

import flores
import losses
import models
import numpy as np
import topics
import torch
import training

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig

LANGUAGES = ("deu_Latn", "hin_Deva", "rus_Cyrl", "swh_Latn", "tur_Latn", "zho_Hans")
MIDDLING = "tur_Latn"
KINDS = ("rise", "fall", "mild", "nothing")
METRICS = ("nasca", "navca", "mexa")
STEPS = 112
EVERY = 16
"""Steps between two checkpoints; twice as many if nothing trains."""
HALF = 50
"""Pairs of each half."""
LOSS_PAIRS = 8
TOPIC_LAYERS = (5, 8, 11, 14)
"""Hidden states whose accuracies are averaged; fixed before any score was seen."""
PENALTY = 0.1
"""Of the topics' classifier; that of most layers of the undamaged model."""


def halves(data):
    """The probe's lines as two corpora of ``HALF`` pairs, every other line in each."""
    whole = ParallelCorpus.from_folder(Path(data) / "flores_half", languages=LANGUAGES)
    pairs = {code: whole.pairs[code][: 2 * HALF] for code in LANGUAGES}
    return {
        name: ParallelCorpus(whole.pivot, {code: pairs[code][first::2] for code in LANGUAGES})
        for first, name in enumerate(("chosen", "held_out"))
    }


class Checkpoints:
    """Measures a model in bfloat16, and keeps what it finds in files that begin with ``name``."""

    def __init__(self, model, tokenizer, data, out, name):
        self.trained, self.tokenizer, self.data = model, tokenizer, data
        self.out, self.name = Path(out), name
        options = {"languages": LANGUAGES, "n_pairs": HALF, "diagnostics": ()}
        metrics = {"chosen": METRICS, "held_out": METRICS[:1]}
        self.probes = {
            half: Probe(ProbeConfig(corpus=corpus, metrics=metrics[half], **options), tokenizer)
            for half, corpus in halves(data).items()
        }

    @torch.no_grad()
    def measure(self, step, loss=None):
        self.model = copy.deepcopy(self.trained).to(torch.bfloat16).eval()
        # With frozen weights in bfloat16, torch 2.13 keeps memory at every call on a CPU.
        self.model.requires_grad_(True)
        row = {"step": step, "train_loss": loss, "bits": self.bits(), "topics": self.topics()}
        for half, probe in self.probes.items():
            report = replace(probe.run(self.model, step), run={})
            models.keep(self.out / f"{self.name}_{half}.jsonl", report.to_dict())
            row[half] = {name: round(report.score("nasca", name), 4) for name in LANGUAGES}
        models.keep(self.out / f"{self.name}.jsonl", row)
        print(row, flush=True)

    def bits(self):
        """language -> bits per sentence."""
        corpus = self.probes["chosen"].corpus
        found = losses.bits(self.model, self.tokenizer, corpus, LANGUAGES, LOSS_PAIRS)
        return {name: round(found[name]["target"]["per_sentence"], 3) for name in LANGUAGES}

    def topics(self):
        """language -> share of the test lines whose topic is found."""
        _, train, test = flores.split(self.data)
        train = train[::2]
        labels = flores.topics_of(self.data)

        def states(name, rows):
            lines = flores.lines_of(self.data, name)
            pooled = topics.pooled_states(self.model, self.tokenizer, [lines[k] for k in rows])
            return pooled[:, list(TOPIC_LAYERS)]

        found = topics.transfer(
            states(flores.PIVOT, train),
            [labels[k] for k in train],
            {name: states(name, test) for name in LANGUAGES},
            [labels[k] for k in test],
            (PENALTY,),
        )
        return {name: round(float(np.mean(shares)), 4) for name, shares in found.items()}


def run(folder, data, out, kind, steps=STEPS, every=EVERY):
    """Runs one of ``KINDS`` from its start; what an earlier try has kept of it is deleted.

    A rise also keeps the undamaged model, as ``along_undamaged``.
    """
    names = [f"along_{kind}"] + ["along_undamaged"] * (kind == "rise")
    for path in [path for name in names for path in Path(out).glob(f"{name}*.jsonl")]:
        path.unlink()
    model, tokenizer = models.load(folder, "float32")
    if kind == "rise":
        Checkpoints(model, tokenizer, data, out, names[1]).measure(0)
    checkpoints = Checkpoints(model, tokenizer, data, out, names[0])
    if kind == "nothing":
        for step in range(0, steps + 1, 2 * every):
            checkpoints.measure(step)
        return
    trained, lines = training.prepare(kind, model, tokenizer, data, LANGUAGES, MIDDLING, steps)
    checkpoints.measure(0)
    for step, (ids, mask) in enumerate(training.batches(tokenizer, lines, steps), 1):
        loss = trained.step(ids, mask)
        print(step, round(loss, 3), flush=True)
        if step % every == 0:
            checkpoints.measure(step, round(loss, 4))
