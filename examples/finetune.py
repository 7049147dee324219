"""Fine-tune a causal model on any text, log its alignment, and keep the best checkpoint.

    python examples/finetune.py --model Qwen/Qwen3-0.6B --data notes.txt --lora
    python examples/finetune.py --model path/to/model --data chats.jsonl --text-column message
    python examples/finetune.py --model gpt2 --data wikimedia/wikipedia --subset 20231101.sw

The data is a text file (one example per line), a JSONL file, or a data set of the hub. Install the
extra "datasets", and peft for --lora.

The published correlation with downstream tasks is across models and languages, not across
checkpoints of one run. So watch the loss as well, and confirm the chosen checkpoint with the other
half of the built-in sentences (``ProbeConfig(corpus="builtin:test")``).
"""

import argparse
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    EarlyStoppingCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from neuronxa_callback import NeuronXACallback, ProbeConfig


def main() -> None:
    """Fine-tune."""
    options = arguments()
    set_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(options.model)
    if options.lora:
        model = with_lora(model)
    data = tokens(read_texts(options), tokenizer, options.max_length)
    data = data.train_test_split(test_size=options.held_out, seed=options.seed)

    trainer = Trainer(
        model=model,
        args=training_arguments(options),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        processing_class=tokenizer,
        callbacks=[
            NeuronXACallback(ProbeConfig(languages=options.languages)),
            # Second, because it reads the score that the first one adds to each evaluation.
            EarlyStoppingCallback(early_stopping_patience=options.patience),
        ],
    )
    trainer.train()
    trainer.save_model(str(options.out / "best"))
    print(f"best: {trainer.state.best_model_checkpoint}, eval_nasca {trainer.state.best_metric}")
    print(f"saved to {options.out / 'best'}, reports in {options.out / 'neuronxa'}")


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="hub name or path")
    parser.add_argument("--data", required=True, help=".txt, .jsonl or a data set of the hub")
    parser.add_argument("--subset", help="configuration of a data set of the hub")
    parser.add_argument("--split", default="train", help="split of a data set of the hub")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--languages", nargs="+", help="languages to probe (default: all)")
    parser.add_argument("--lora", action="store_true", help="train adapters instead of all weights")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--patience", type=int, default=3, help="evaluations without a new best")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--max-length", type=int, default=512, help="maximum tokens per example")
    parser.add_argument(
        "--held-out", type=float, default=0.05, help="share of examples for evaluation"
    )
    parser.add_argument("--report-to", nargs="+", default=["wandb"], help="trackers, or none")
    parser.add_argument("--out", type=Path, default=Path("runs/finetune"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    return parser.parse_args()


def training_arguments(options: argparse.Namespace) -> TrainingArguments:
    """Evaluate and save at the same steps, so that the best model is saved."""
    return TrainingArguments(
        output_dir=str(options.out),
        max_steps=options.steps,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        eval_strategy="steps",
        eval_steps=options.every,
        save_steps=options.every,
        save_total_limit=2,
        logging_steps=min(10, options.every),
        metric_for_best_model="eval_nasca",
        load_best_model_at_end=True,
        report_to=options.report_to,
        use_cpu=options.cpu,
        seed=options.seed,
    )


def with_lora(model: Any) -> Any:
    """The model with adapters on all its linear layers."""
    from peft import LoraConfig, get_peft_model

    return get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))


def read_texts(options: argparse.Namespace) -> Dataset:
    """The texts, in the column ``text``."""
    if not Path(options.data).is_file():
        rows = load_dataset(options.data, options.subset, split=options.split)
    elif options.data.endswith((".jsonl", ".json")):
        rows = Dataset.from_json(options.data)
    else:
        lines = Path(options.data).read_text(encoding="utf-8").splitlines()
        return Dataset.from_dict({"text": [line for line in lines if line.strip()]})
    if options.text_column not in rows.column_names:
        raise SystemExit(
            f"--text-column must name one of the columns {', '.join(rows.column_names)},"
            f" got {options.text_column!r}"
        )
    return Dataset.from_dict({"text": list(rows[options.text_column])})


def tokens(texts: Dataset, tokenizer: Any, max_length: int) -> Dataset:
    """Token ids, truncated to ``max_length``."""
    return texts.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=max_length),
        batched=True,
        remove_columns=["text"],
    )


if __name__ == "__main__":
    main()
