"""What the tests of a Trainer on several ranks share with the script that torchrun starts."""

import logging

from neuronxa_callback import ProbeConfig
from tests.helpers.ranks import METRICS, measurement
from tests.helpers.scripted import ScriptedCallback
from tests.helpers.tiny import parallel

SEVEN = ("deu_Latn", "fra_Latn", "spa_Latn", "ita_Latn", "nld_Latn", "por_Latn", "swh_Latn")
BUILTIN = ProbeConfig(languages=SEVEN, metrics=METRICS, batch_tokens=2048)
SMALL = ProbeConfig(corpus=parallel(20), n_pairs=20, batch_tokens=128)
ONE = ProbeConfig(corpus=parallel(20, ("deu_Latn",)), n_pairs=20, batch_tokens=128)

PLACES = {
    "ddp hook": (False, "dense", 20),
    "ddp pivot": (False, "empty_pivot", 1),
    "ddp columns": (False, "partial_similarity", 2),
    "fsdp2 hook": (True, "dense", 20),
    "fsdp2 begin": (True, "begin", 2),
    "fsdp2 columns": (True, "partial_similarity", 1),
}
"""Where memory runs out: sharded weights, the method of ``SimilarityAccumulator``, its call."""


class Watch:
    """The reports of this rank by step, and its warnings."""

    def __init__(self):
        self.reports, self.warned = {}, []

    def callback(self, config, **options):
        """A callback whose reports are watched."""
        return ScriptedCallback(config, self.see, **options)

    def see(self, report):
        self.reports[report.step] = measurement(report)
        return report

    def __enter__(self):
        self.handler = logging.Handler()
        self.handler.emit = lambda record: self.warned.append(record.getMessage())
        logging.getLogger("neuronxa_callback").addHandler(self.handler)
        return self

    def __exit__(self, *error):
        logging.getLogger("neuronxa_callback").removeHandler(self.handler)
