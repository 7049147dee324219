"""A training process for test_watch_processes.py: saves and measures every second step, slowly."""

import sys
import time

from transformers import TrainerCallback

from neuronxa_callback import NeuronXACallback, ParallelCorpus
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.shell import CONFIG


class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        time.sleep(0.5)


folder = sys.argv[1]
tokenizer = tokenizer_for(ParallelCorpus.builtin(languages=CONFIG.languages))
saves = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8}
trainer_of(tokenizer, folder, [NeuronXACallback(CONFIG, every=2), Slow()], args=saves).train()
