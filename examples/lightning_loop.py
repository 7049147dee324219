"""A probe in a callback of Lightning (pip install lightning).

python examples/lightning_loop.py          # train a small GPT on bytes and probe at regular steps
"""

import argparse
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from accelerate_loop import byte_tokenizer
from neuronxa_callback import JsonlSink, Probe, ProbeConfig
from plain_loop import GPT, token_stream


class LitGPT(lightning.LightningModule):  # type: ignore[misc]
    """The GPT of the plain loop, trained by Lightning."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.gpt = GPT(vocabulary)

    def forward(self, idx: Tensor) -> Tensor:
        """Logits: this is what the probe calls."""
        return self.gpt(idx)[0]  # type: ignore[no-any-return]

    def training_step(self, rows: Tensor, index: int) -> Tensor:
        """The loss of rows [batch, tokens + 1]."""
        return self.gpt(rows[:, :-1], rows[:, 1:])[1]  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        """One optimizer for all weights."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class ProbeCallback(lightning.Callback):  # type: ignore[misc]
    """Probes before the first step and every few steps."""

    def __init__(self, probe: Probe, record: JsonlSink, every: int) -> None:
        self.probe, self.record, self.every = probe, record, every

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Probe the weights before the first step."""
        if trainer.is_global_zero:
            self.record.rotate()  # Renames the record of an earlier training.
        self.run(trainer, pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Probe if the step is due."""
        if trainer.global_step % self.every == 0:
            self.run(trainer, pl_module)

    def run(self, trainer: Any, pl_module: Any) -> None:
        """Call it on every rank: the ranks share the work and get the same report."""
        # In the precision of training, such as bf16-mixed.
        with trainer.precision_plugin.forward_context():
            report = self.probe.run(pl_module, trainer.global_step)
        pl_module.log_dict({f"nasca/{k}": report.score("nasca", k) for k in report.languages})
        if trainer.is_global_zero:
            self.record.write(report)
            print(f"step {report.step:>5}  nasca {report.score('nasca'):.3f}")


def main() -> None:
    """Train, and probe at regular steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=25, help="steps between probes")
    parser.add_argument("--out", type=Path, default=Path("runs/lightning_loop"))
    options = parser.parse_args()
    lightning.seed_everything(0)
    tokenizer = byte_tokenizer()
    stream = token_stream(tokenizer)
    rows: Any = list(stream[: len(stream) // 65 * 65].view(-1, 65))
    probe = Probe(ProbeConfig(languages=("deu_Latn", "fra_Latn"), n_pairs=20), tokenizer)
    record = JsonlSink(options.out / "reports.jsonl")
    trainer = lightning.Trainer(
        max_steps=options.steps,
        callbacks=[ProbeCallback(probe, record, options.every)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(LitGPT(len(tokenizer)), DataLoader(rows, batch_size=8, shuffle=True))
    print(f"reports: {record.path}")


if __name__ == "__main__":
    main()
