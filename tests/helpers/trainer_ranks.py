"""What test_trainer_ranks.py and its worker have in common."""

import logging

from neuronxa_callback import Probe, ProbeConfig
from tests.helpers.ranks import METRICS, measured
from tests.helpers.tiny import parallel

SEVEN = ("deu_Latn", "fra_Latn", "spa_Latn", "ita_Latn", "nld_Latn", "por_Latn", "swh_Latn")
BUILTIN = ProbeConfig(languages=SEVEN, metrics=METRICS, batch_tokens=2048)
SMALL = ProbeConfig(corpus=parallel(20), n_pairs=20, batch_tokens=128)
ONE = ProbeConfig(corpus=parallel(20, ("deu_Latn",)), n_pairs=20, batch_tokens=128)

FAILING_METHODS = {
    "ddp hook": (False, "dense", 20),
    "ddp pivot": (False, "empty_pivot", 1),
    "ddp sums": (False, "partial_similarity", 2),
    "fsdp2 hook": (True, "dense", 20),
    "fsdp2 begin": (True, "begin", 2),
    "fsdp2 sums": (True, "partial_similarity", 1),
}
"""Scene -> (whether weights are sharded, the accumulator's method that fails, at which call)."""


class Watch:
    """All reports of the probes of this rank, by step, and the warnings."""

    def __init__(self):
        self.reports, self.warned, self.whole = {}, [], Probe.run

    def __enter__(self):
        def run(probe, model, step=0, progress=None):
            report = self.whole(probe, model, step, progress)
            self.reports[step] = measured(report)
            return report

        Probe.run = run
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.warned.append(record.getMessage())
        logging.getLogger("neuronxa_callback").addHandler(self.handler)
        return self

    def __exit__(self, *error):
        Probe.run = self.whole
        logging.getLogger("neuronxa_callback").removeHandler(self.handler)
