"""What the tests of a Trainer on several ranks share with the script that torchrun starts."""

import json
import logging

from neuronxa_callback import ProbeConfig
from tests.helpers.scripted import ScriptedCallback
from tests.helpers.tiny import parallel

SEVEN = ("deu_Latn", "fra_Latn", "spa_Latn", "ita_Latn", "nld_Latn", "por_Latn", "swh_Latn")
BUILTIN = ProbeConfig(languages=SEVEN, metrics=("nasca", "navca", "mexa"), batch_tokens=2048)
SMALL = ProbeConfig(corpus=parallel(20), n_pairs=20, batch_tokens=128)
ONE = ProbeConfig(corpus=parallel(20, ("deu_Latn",)), n_pairs=20, batch_tokens=128)

PLACES = {
    "ddp hook": (False, "dense", 20),
    "ddp pivot": (False, "pivot", 1),
    "ddp columns": (False, "columns", 2),
    "fsdp2 hook": (True, "dense", 20),
    "fsdp2 begin": (True, "begin", 2),
    "fsdp2 columns": (True, "columns", 1),
}
"""Where memory runs out: sharded weights, the method of ``SimilarityAccumulator``, its call."""


def measurement(report):
    """The report without its ``run`` block, as text that can be compared byte for byte."""
    plain = report.to_dict()
    plain.pop("run")
    return json.dumps(plain, sort_keys=True)


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
