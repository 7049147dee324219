"""Watch alignment emerge during training: about a minute on two cores, no download.

A small decoder learns from scratch to translate German, French, Spanish and Turkish sentences of a
toy grammar into English. At every tenth step, the callback measures whether a sentence and its
translation activate the same neurons, with 100 sentences per language that are not in the training
text.

    python examples/quickstart.py
    python examples/quickstart.py --steps 150 --seed 1 --out runs/longer
"""

import argparse
import os
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import wandb
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    ProgressCallback,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

import toy_languages as toy
from neuronxa_callback import NeuronXACallback, ParallelCorpus, ProbeConfig
from neuronxa_callback.history import read_reports
from neuronxa_callback.show.charts import picture

PROBE_EVERY = 10
BATCH = 64
PROBE_PAIRS = 100
SPECIAL = ("<pad>", "<s>", "</s>", "<to>")


def main() -> None:
    """Train and measure."""
    options = arguments()
    start_wandb_offline(options.out)
    set_seed(options.seed)

    # Training text and probe sentences. No sentence is in both.
    sources = len((toy.PIVOT, *toy.LANGUAGES))
    wanted = PROBE_PAIRS + -(-options.steps * BATCH // sources)
    meanings = list(islice(toy.meanings(options.seed), wanted))
    held_out, learned = meanings[:PROBE_PAIRS], meanings[PROBE_PAIRS:]
    tokenizer = word_tokenizer(meanings)
    corpus = ParallelCorpus(
        pivot=toy.PIVOT,
        pairs={
            language: tuple((toy.say(m, toy.PIVOT), toy.say(m, language)) for m in held_out)
            for language in toy.LANGUAGES
        },
        name="toy languages",
    )

    # The callback. The rest of this script is an ordinary training script.
    # Overlap and sharing come from the same pass.
    config = ProbeConfig(corpus=corpus, neurons=("overlap", "sharing"))
    neuronxa = NeuronXACallback(config, every=PROBE_EVERY)

    trainer = Trainer(
        model=small_decoder(tokenizer),
        args=training_arguments(options),
        train_dataset=translations(learned, tokenizer),
        data_collator=padded,
        processing_class=tokenizer,
        callbacks=[neuronxa],
    )
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(ProgressWithTable(toy.LANGUAGES))
    trainer.train()
    print_outputs(options.out, trainer)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=90, help="training steps")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="output folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def start_wandb_offline(out: Path) -> None:
    """W&B writes to the output folder, offline, unless the environment sets another mode."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_DIR", str(out))
    os.environ.setdefault("WANDB_PROJECT", "neuronxa-quickstart")
    os.environ.setdefault("WANDB_SILENT", "true")


def word_tokenizer(meanings: list[toy.Meaning]) -> PreTrainedTokenizerFast:
    """One token per word of these sentences."""
    texts = (toy.say(m, language) for m in meanings for language in (toy.PIVOT, *toy.LANGUAGES))
    words = dict.fromkeys(word for text in texts for word in text.split())
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    words_to_numbers = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    words_to_numbers.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words_to_numbers.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=words_to_numbers, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def translations(
    meanings: list[toy.Meaning], tokenizer: PreTrainedTokenizerFast
) -> list[dict[str, list[int]]]:
    """``<s> sentence <to> English </s>`` from each language, with the loss on the English only.

    English is a source language too, so that the model reads all languages in the same way.
    """
    rows = []
    for meaning in meanings:
        target = tokenizer(f"<to> {toy.say(meaning, toy.PIVOT)} </s>", add_special_tokens=False)
        for language in (toy.PIVOT, *toy.LANGUAGES):
            source = tokenizer(toy.say(meaning, language))["input_ids"]
            unscored = [-100] * (len(source) + 1)
            rows.append(
                {
                    "input_ids": source + target["input_ids"],
                    "labels": unscored + target["input_ids"][1:],
                }
            )
    return rows


def padded(rows: list[dict[str, list[int]]]) -> dict[str, Tensor]:
    """A batch, padded to its longest row."""
    lists = {key: [tensor(row[key]) for row in rows] for key in ("input_ids", "labels")}
    ids = pad_sequence(lists["input_ids"], batch_first=True, padding_value=0)
    labels = pad_sequence(lists["labels"], batch_first=True, padding_value=-100)
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids != 0).long()}


def small_decoder(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Four layers with hidden size 384: six million random weights.

    Embeddings start close to zero, so that training determines them, not the random start.
    """
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=384,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=6,
            max_position_embeddings=64,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with torch.no_grad():
        model.model.embed_tokens.weight *= 0.01
    return model


def training_arguments(options: argparse.Namespace) -> TrainingArguments:
    """Ordinary arguments; the loss is logged at the steps of the probes."""
    return TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=BATCH,
        learning_rate=1e-3,
        weight_decay=0.1,
        adam_beta2=0.95,
        warmup_steps=30,
        logging_steps=PROBE_EVERY,
        save_strategy="no",
        report_to=["wandb"],
        run_name="quickstart",
        use_cpu=True,
        dataloader_pin_memory=False,
        seed=options.seed,
    )


class ProgressWithTable(ProgressCallback):
    """The progress bar of the Trainer, with a table of scores above it."""

    def __init__(self, languages: tuple[str, ...]) -> None:
        super().__init__()
        self.languages = languages

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Print the header and the probe before the first step."""
        super().on_train_begin(args, state, control, **kwargs)  # type: ignore[no-untyped-call]
        names = "".join(f"{name:>9}" for name in (*self.languages, "early", "middle", "late"))
        tqdm.write(f"\n{'step':>6}{'loss':>8} |{names}")
        self.add_row(args, loss="-")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Print a row for each loss, with the probe of the same step."""
        if logs and "loss" in logs:
            self.add_row(args, loss=f"{float(logs['loss']):.3f}")

    def add_row(self, args: TrainingArguments, loss: str) -> None:
        """Print one row with the scores of the latest report in the record."""
        report = read_reports(args.output_dir or ".")[-1]
        scores = [report.score("nasca", name) for name in self.languages]
        scores += report.thirds("nasca")
        tqdm.write(f"{report.step:>6}{loss:>8} |{''.join(f'{score:>9.3f}' for score in scores)}")


def print_outputs(out: Path, trainer: Trainer) -> None:
    """Draw the picture and print the paths of all outputs."""
    wandb_run = Path(wandb.run.dir).parent if wandb.run else "none, W&B is switched off"
    wandb.finish()
    record, drawn = out / "neuronxa" / "reports.jsonl", out / "emergence.png"
    log = trainer.state.log_history
    losses = {int(row["step"]): row["loss"] for row in log if "loss" in row}
    picture(read_reports(record), losses).savefig(drawn)
    print(f"Every report, one a line   {record}")
    print(f"Loss and alignment         {drawn}")
    print(f"W&B run                    {wandb_run}")
    print(f"Page, if plotly is there   neuronxa page {out}")


if __name__ == "__main__":
    main()
