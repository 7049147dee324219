"""Measures the cost of reading neuron states, without any further computation.

    python benchmarks/capture.py [--models "Llama 25M"] [--languages 4] [--rounds 9] [--out F]

The columns are ratios: a forward pass with hooks and a sink that ignores the states to the bare
forward pass of the same batch, and a complete probe (pooling, scoring, report) to the bare forward
passes of its microbatches.
"""

import argparse

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import forward
import subjects
from neuronxa_callback.taps import discover

BATCH, TOKENS = 64, 32


class NullSink:
    """A sink that ignores all states."""

    def dense(self, part, site, states, start):
        pass

    def routed(self, part, site, states, token, expert, last):
        pass


def experts(implementation):
    """A random mixture of experts: 32 of 256 neurons, 4 a token, 8 layers."""
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=8000, hidden_size=512, num_hidden_layers=8, num_attention_heads=8,
        num_key_value_heads=4, head_dim=64, num_experts=32, num_experts_per_tok=4,
        moe_intermediate_size=256, pad_token_id=0, experts_implementation=implementation,
    )  # fmt: skip
    return Qwen3MoeForCausalLM(config).eval()


SUBJECTS = {
    "Llama 25M": lambda: subjects.llama("25M"),
    "Qwen3-MoE, grouped_mm": lambda: experts("grouped_mm"),
    "Qwen3-MoE, eager": lambda: experts("eager"),
}


def seconds(model, rounds):
    """Seconds of a forward pass: bare, reading the gate, reading gate and product, in turn."""
    ids = torch.randint(5, 8000, (BATCH, TOKENS))

    def bare():
        with torch.no_grad():
            model(input_ids=ids, use_cache=False, logits_to_keep=1)

    plan = discover(model, bare)

    def tapped(sites):
        with plan.attach(model, sites, NullSink(), lambda: ids.shape) as reader:
            reader.begin()
            bare()
            reader.end()
        assert reader.error is None

    variants = {
        "bare": bare,
        "gate": lambda: tapped(("gate",)),
        "gate and product": lambda: tapped(("gate", "product")),
    }
    return subjects.paired(variants, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--languages", type=int, default=4, help="languages of the complete probe")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out")
    options = parser.parse_args()
    corpus = forward.ParallelCorpus.builtin("dev", subjects.TWELVE[: options.languages])
    tokenizer = subjects.tokenizer_of(corpus)
    lines = [
        subjects.heading("Cost of reading states"),
        f"{BATCH} x {TOKENS} tokens; median (minimum-maximum) ratio to the bare forward pass in"
        f" {options.rounds} paired rounds.\n",
        "| model | gate | gate and product | whole probe, nasca | whole probe, nasca and navca |",
        "|---|---|---|---|---|",
    ]
    for name in options.models:
        model = SUBJECTS[name]()
        ratios = subjects.ratios(seconds(model, options.rounds), "bare")
        kinds = ["nasca", "nasca, navca"]
        whole, _ = forward.measure(model, tokenizer, corpus, kinds, -(-options.rounds // 3))
        over = subjects.ratios(whole, forward.FLOOR)
        ratios |= {name: over[name] for name in kinds}
        cells = [f"{median:.2f} ({low:.2f}-{high:.2f})" for median, low, high in ratios.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
