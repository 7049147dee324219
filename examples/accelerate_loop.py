"""A training loop with accelerate and a probe, without the Trainer.

python examples/accelerate_loop.py                         # a tiny model with random weights
python examples/accelerate_loop.py --model path/to/model   # any causal model, local or on the hub
accelerate launch examples/accelerate_loop.py              # on all GPUs of a machine
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import toy_languages as toy
from neuronxa_callback import JsonlSink, Probe, ProbeConfig


def main() -> None:
    """Train, and probe at regular steps."""
    options = arguments()
    set_seed(options.seed)
    accelerator = Accelerator(cpu=options.cpu)
    model, tokenizer = load(options.model)
    # Any training text works, except the sentences of the probe.
    texts = [
        toy.say(meaning, language)
        for meaning in islice(toy.meanings(options.seed), 500)
        for language in (toy.PIVOT, *toy.LANGUAGES)
    ]
    loader: Any = DataLoader(
        texts,  # type: ignore[arg-type]
        batch_size=8,
        shuffle=True,
        collate_fn=lambda batch: encode(tokenizer, batch),
    )
    optimizer: Any = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

    probe = Probe(ProbeConfig(languages=tuple(options.languages)), tokenizer)
    record = JsonlSink(options.out / "reports.jsonl")
    if accelerator.is_main_process:
        record.rotate()  # Renames the record of an earlier training.
    for step, batch in enumerate(forever(loader)):
        if step % options.every == 0:
            # Call it on every rank: the ranks share the work and get the same report.
            report = probe.run(model, step)
            if accelerator.is_main_process:
                record.write(report)
            scores = "  ".join(
                f"{name} {report.score('nasca', name):.3f}" for name in report.languages
            )
            accelerator.print(f"step {step:>5}  nasca {report.score('nasca'):.3f}  {scores}")
        if step == options.steps:
            break
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
    accelerator.print(f"reports: {record.path}")
    accelerator.end_training()


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="hub name or path (default: a tiny random model)")
    parser.add_argument("--languages", nargs="+", default=["deu_Latn", "fra_Latn"])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=25, help="steps between probes")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("runs/accelerate_loop"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    return parser.parse_args()


def load(name: str | None) -> tuple[Any, Any]:
    """The model and its tokenizer, from the hub or a path, or a tiny random model."""
    if name is not None:
        return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config), tokenizer


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte of UTF-8: covers every language and needs no training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(("<pad>", *alphabet))}
    by_bytes = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    by_bytes.normalizer = normalizers.NFC()
    by_bytes.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=by_bytes, pad_token="<pad>"
    )


def encode(tokenizer: Any, texts: list[str]) -> Any:
    """A padded batch; padding is excluded from the loss."""
    batch = tokenizer(texts, return_tensors="pt", padding=True, truncation=True, max_length=128)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch


def forever(loader: Any) -> Any:
    """The batches of the loader, epoch after epoch."""
    while True:
        yield from loader


if __name__ == "__main__":
    main()
