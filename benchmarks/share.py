"""Measures the share of a training run's time that probes take, by schedule.

    python benchmarks/share.py [--steps 300] [--out F]

A small Llama (4 layers, hidden size 128) trains on random tokens, 8 rows of 256 tokens per step,
with an evaluation every 100 steps. The probe has the built-in sentences in 12 languages. The share
depends on the tokens per step: it is much smaller in larger runs.
"""

import argparse
import tempfile
import time

import torch
from transformers import Trainer, TrainingArguments

import subjects
from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig
from neuronxa_callback.history import read_reports

SHAPE = {"vocab_size": 8000, "hidden_size": 128, "intermediate_size": 352}


def train(steps, callbacks, folder, tokenizer):
    """Seconds of one run."""
    torch.manual_seed(1)
    ids = torch.randint(5, 8000, (512, 256))
    rows = [{"input_ids": row, "labels": row} for row in ids]
    trainer = Trainer(
        model=subjects.llama("tiny", **SHAPE).train(),
        args=TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=8,
            eval_strategy="steps",
            eval_steps=100,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=rows,
        eval_dataset=rows[:16],
        processing_class=tokenizer,
        callbacks=callbacks,
    )
    began = time.perf_counter()
    trainer.train()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out")
    options = parser.parse_args()
    corpus = ParallelCorpus.builtin("dev", subjects.TWELVE)
    tokenizer = subjects.tokenizer_of(corpus)
    config = ProbeConfig(corpus=corpus)
    lines = [
        subjects.heading("The probes' share of a run"),
        f"{options.steps} steps.\n",
        "| schedule | run, s | probes | seconds in probes | share |",
        "|---|---|---|---|---|",
    ]
    schedules = {
        "default (first, each evaluation, last)": {},
        "max_overhead=0.01": {"max_overhead": 0.01},
        "every=20": {"every": 20},
    }
    for name, schedule in schedules.items():
        with tempfile.TemporaryDirectory() as folder:
            total = train(options.steps, [NeuronXACallback(config, **schedule)], folder, tokenizer)
            seconds = [report.run["seconds"] for report in read_reports(folder)]
        share = sum(seconds) / total
        lines.append(
            f"| {name} | {total:.1f} | {len(seconds)} | {sum(seconds):.2f} | {share:.2%} |"
        )
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
