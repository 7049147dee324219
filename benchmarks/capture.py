"""What it costs to read the states, before anything is done with them.

    python benchmarks/capture.py [--rounds 9] [--out F]

Hooks that hand the states to a sink that drops them, over the bare forward of the same batch; the
last column is a whole probe (pooling, scoring, report) over the bare forward of its microbatches.
"""

import argparse

import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

import forward
import subjects
from neuronxa_callback.taps.plan import discover

BATCH, TOKENS = 64, 32


class Dropped:
    """A sink that keeps nothing."""

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


def captured(model, rounds):
    """Seconds bare, with the gate, with gate and product, in turn."""
    ids = torch.randint(5, 8000, (BATCH, TOKENS))

    def bare():
        with torch.no_grad():
            model(input_ids=ids, use_cache=False, logits_to_keep=1)

    plan = discover(model, bare)

    def tapped(sites):
        with plan.attach(model, sites, Dropped(), lambda: ids.shape) as reader:
            reader.begin()
            bare()
            reader.end()
        assert reader.error is None

    acts = {
        "bare": bare,
        "gate": lambda: tapped(("gate",)),
        "gate and product": lambda: tapped(("gate", "product")),
    }
    return subjects.paired(acts, rounds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out")
    options = parser.parse_args()
    corpus = forward.ParallelCorpus.builtin("dev", subjects.TWELVE[:4])
    tokenizer = subjects.tokenizer_of(corpus)
    lines = [
        subjects.heading("The cost of reading states"),
        f"{BATCH} x {TOKENS} tokens; median ratios to the bare forward of {options.rounds} paired"
        " rounds, with the least and the most.\n",
        "| model | gate | gate and product | whole probe, nasca | whole probe, nasca and navca |",
        "|---|---|---|---|---|",
    ]
    for name, make in SUBJECTS.items():
        model = make()
        found = subjects.ratios(captured(model, options.rounds), "bare")
        kinds = ["nasca", "nasca, navca"]
        whole, _ = forward.measure(model, tokenizer, corpus, kinds, max(3, options.rounds // 3))
        found |= subjects.ratios(whole, "bare")
        cells = [f"{each[0]:.2f} ({each[1]:.2f}-{each[2]:.2f})" for each in found.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    subjects.keep("\n".join(lines), options.out)


if __name__ == "__main__":
    main()
