"""A short real training run, and what a process of its own needs to find the package."""

import os
from pathlib import Path

from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from neuronxa_callback import NeuronXACallback, ProbeConfig
from tests.helpers.tiny import llama, parallel, sentences, tokenizer_of

SHELL = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
TEXTS = sentences(40, seed=9)


def tokenizer_for(corpus):
    """One that knows the sentences of a corpus and the text that is trained on."""
    pairs = [pair for each in corpus.pairs.values() for pair in each]
    return tokenizer_of([text for pair in pairs for text in pair] + TEXTS)


def trainer_of(tokenizer, folder, callbacks=(), model=None, args=None, **options):
    rows = [{"input_ids": tokenizer(text)["input_ids"]} for text in TEXTS]
    arguments = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    } | (args or {})
    options = {"train_dataset": rows[:32], "eval_dataset": rows[32:]} | options
    return Trainer(
        model=model or llama(attention_dropout=0.2),
        args=TrainingArguments(**arguments),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=list(callbacks),
        **options,
    )


def train_with(tracker, folder, resume_from=None, **args):
    """A real run of 6 steps, probed at every second step, that reports to a tracker."""
    corpus = parallel(10)
    callback = NeuronXACallback(ProbeConfig(corpus=corpus, n_pairs=10), every=2)
    args = {"report_to": [tracker], **args}
    trainer = trainer_of(tokenizer_for(corpus), folder, [callback], args=args)
    trainer.train(resume_from_checkpoint=resume_from)
