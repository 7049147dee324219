"""A model of plain PyTorch in a plain training loop, with a probe.

python examples/plain_loop.py              # train a small GPT on bytes and probe at regular steps
"""

import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import toy_languages as toy
from accelerate_loop import byte_tokenizer
from neuronxa_callback import JsonlSink, Probe, ProbeConfig


class Block(nn.Module):
    """Causal attention and a feed-forward network."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, width] -> the same."""
        batch, tokens, width = x.shape
        q, k, v = (
            part.view(batch, tokens, self.heads, -1).transpose(1, 2)
            for part in self.qkv(self.ln_1(x)).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(seen.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class GPT(nn.Module):
    """A decoder with learned positions.

    Its forward knows nothing of transformers: the probe finds its arguments by their names, and
    passes ids without a mask. Padding on the right is harmless to a causal model.
    """

    def __init__(
        self, vocabulary: int, block_size: int = 192, width: int = 64, layers: int = 3
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(block_size, width)
        self.blocks = nn.ModuleList(Block(width, heads=4) for _ in range(layers))
        self.ln_f, self.head = nn.LayerNorm(width), nn.Linear(width, vocabulary)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [batch, tokens, vocabulary], and the loss if there are targets."""
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.blocks:
            x = block(x)
        logits = self.head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def main() -> None:
    """Train, and probe at regular steps."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=25, help="steps between probes")
    parser.add_argument("--out", type=Path, default=Path("runs/plain_loop"))
    options = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = byte_tokenizer()
    model = GPT(len(tokenizer))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    stream = token_stream(tokenizer)
    probe = Probe(ProbeConfig(languages=("deu_Latn", "fra_Latn"), n_pairs=20), tokenizer)
    record = JsonlSink(options.out / "reports.jsonl")
    record.rotate()  # Renames the record of an earlier training.
    for step in range(options.steps + 1):
        if step % options.every == 0:
            report = probe.run(model, step)
            record.write(report)
            print(f"step {step:>5}  nasca {report.score('nasca'):.3f}")
        starts = torch.randint(len(stream) - 65, (8,)).tolist()
        rows = torch.stack([stream[start : start + 65] for start in starts])
        _, loss = model(rows[:, :-1], rows[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"reports: {record.path}")


def token_stream(tokenizer: object) -> Tensor:
    """Sentences of toy languages as one line of token ids."""
    text = "\n".join(
        toy.say(meaning, language)
        for meaning in islice(toy.meanings(0), 200)
        for language in (toy.PIVOT, *toy.LANGUAGES)
    )
    return torch.tensor(tokenizer(text)["input_ids"])  # type: ignore[operator]


if __name__ == "__main__":
    main()
