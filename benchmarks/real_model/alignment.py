"""The scores of NASCA, NAVCA and MEXA of all languages of a corpus, as one report."""

from dataclasses import replace
from pathlib import Path

import models

from neuronxa_callback import Probe, ProbeConfig

METRICS = ("nasca", "navca", "mexa")


def measure(model, tokenizer, corpus, languages=None, n_pairs=100):
    """A report without what depends on the machine or the hour."""
    config = ProbeConfig(
        corpus=corpus,
        languages=languages,
        n_pairs=n_pairs,
        metrics=METRICS,
        diagnostics=("surface", "tokens"),
        neurons=("beyond_surface",),
    )
    report = Probe(config, tokenizer).run(model, progress=lambda done, of: print(done, of))
    return replace(report, run={})


def run(folder, corpus, out, dtype, languages=None):
    model, tokenizer = models.load(folder, dtype)
    report = measure(model, tokenizer, corpus, languages)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(report.to_json() + "\n")
    print(report.score("nasca"), report.warnings)
