"""Shared by the benchmarks: random models of a given shape, real text, paired timing, output."""

import math
import platform
import statistics
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from neuronxa_callback import ParallelCorpus

TWELVE = (
    "deu_Latn", "fra_Latn", "spa_Latn", "por_Latn", "ita_Latn", "nld_Latn",
    "rus_Cyrl", "zho_Hans", "hin_Deva", "swh_Latn", "tur_Latn", "arb_Arab",
)  # fmt: skip

EXPERTS, ACTIVE_EXPERTS = 64, 8
"""Of a mixture of experts, which has as many active neurons per token as the dense model."""

SHAPES = {
    "tiny": {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 4},
    "25M": {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8},
    "100M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12},
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}


def llama(shape, dtype=torch.float32, device="cpu", **overrides):
    """A random Llama."""
    options = {"vocab_size": 32000, "num_attention_heads": 8, "max_position_embeddings": 2048}
    torch.manual_seed(0)
    config = LlamaConfig(**(options | SHAPES[shape] | {"pad_token_id": 0} | overrides))
    with default_dtype(dtype), torch.device(device):
        return LlamaForCausalLM(config).eval()


def build(shape, experts, dtype=torch.float32, device="cpu", **overrides):
    """A random Llama, or a mixture of experts (Qwen3-MoE) with as many active neurons per token."""
    if not experts:
        return llama(shape, dtype, device, **overrides)
    options = {"vocab_size": 32000, "num_attention_heads": 8, "num_key_value_heads": 8}
    options |= SHAPES[shape] | overrides
    # A multiple of 8, as the kernel of grouped products needs.
    options["moe_intermediate_size"] = -(-options["intermediate_size"] // (8 * ACTIVE_EXPERTS)) * 8
    options["head_dim"] = options["hidden_size"] // options["num_attention_heads"]
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **options, num_experts=EXPERTS, num_experts_per_tok=ACTIVE_EXPERTS, pad_token_id=0,
        experts_implementation="grouped_mm",
    )  # fmt: skip
    with default_dtype(dtype), torch.device(device):
        return Qwen3MoeForCausalLM(config).eval()


def name_of(shape, experts):
    """The model of ``build``, as text."""
    if not experts:
        return f"Llama {shape} shape"
    return f"{shape} shape, {ACTIVE_EXPERTS} of {EXPERTS} experts per token (Qwen3-MoE)"


@contextmanager
def default_dtype(dtype):
    """The dtype of new parameters."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def tokenizer_of(corpus, vocabulary=8000):
    """A byte-pair tokenizer, trained on the other half of the built-in sentences."""
    known = ParallelCorpus.builtin("test")
    texts = [text for pairs in known.pairs.values() for pair in pairs for text in pair]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )


def many(languages, pairs):
    """A corpus of any size: built-in sentences; a prefix makes each copy distinct."""
    real = ParallelCorpus.builtin("dev", TWELVE[:8])
    names = [
        f"x{chr(97 + k // 676)}{chr(97 + k // 26 % 26)}{chr(97 + k % 26)}" for k in range(languages)
    ]
    pairs_by_name = {}
    for k, name in enumerate(names):
        source = real.pairs[real.languages[k % 8]]
        pairs_by_name[name] = tuple(
            (f"{p // 100} {source[p % 100][0]}", f"{p // 100} {name} {source[p % 100][1]}")
            for p in range(pairs)
        )
    return ParallelCorpus("eng_Latn", pairs_by_name, name=f"{languages} x {pairs}")


def synchronize(device):
    """Wait until a GPU has finished its work."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds_of(call, device="cpu"):
    """Seconds of one call: those that this process computed on one core, else wall-clock time."""
    one_core = torch.device(device).type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if one_core else time.perf_counter
    synchronize(device)
    began = clock()
    call()
    synchronize(device)
    return clock() - began


def paired(calls, rounds, device="cpu"):
    """name -> seconds per round. Each round runs every call once, in alternating order."""
    seconds = {name: [] for name in calls}
    for call in calls.values():
        call()
    for k in range(rounds):
        for name in list(calls)[:: -1 if k % 2 else 1]:
            seconds[name].append(seconds_of(calls[name], device))
    return seconds


def ratios(seconds, over):
    """name -> (median, minimum, maximum) of the ratio to ``over`` in the same round."""
    summary = {}
    for name, times in seconds.items():
        if name != over:
            ratio = sorted(a / b for a, b in zip(times, seconds[over], strict=True))
            summary[name] = (statistics.median(ratio), ratio[0], ratio[-1])
    return summary


def median_interval(values):
    """(median, low, high): a 95 % interval of the median from order statistics, any distribution.

    >>> median_interval([5, 1, 2, 3, 4, 6, 8, 7, 9, 10])
    (5.5, 2, 9)
    """
    ordered = sorted(values)
    n, cut, below = len(ordered), 0, 0.5 ** len(ordered)
    while below + math.comb(n, cut + 1) * 0.5**n <= 0.025:
        cut += 1
        below += math.comb(n, cut) * 0.5**n
    return statistics.median(ordered), ordered[cut], ordered[-1 - cut]


def ratio_rows(seconds, over):
    """One line of Markdown per name: median seconds, and the ratio to ``over`` by rounds."""
    for name, times in seconds.items():
        ratio = [a / b for a, b in zip(times, seconds[over], strict=True)]
        cells = ("1", "") if name == over else ratio_cells(ratio)
        yield f"| {name} | {statistics.median(times):.3f} | {' | '.join(cells)} |"


def ratio_cells(ratio):
    """A median with two decimals more than a per cent, and its interval."""
    middle, low, high = median_interval(ratio)
    return f"{middle:.3f}", f"{low:.3f} to {high:.3f}"


def heading(title, device="cpu"):
    """Title, command, date, machine and versions, in Markdown."""
    card = torch.cuda.get_device_name() if torch.device(device).type == "cuda" else None
    cores = f"{torch.get_num_threads()} threads"
    return (
        f"# {title}\n\n`{' '.join(['python', *sys.argv])}`, {datetime.now(UTC):%Y-%m-%d}, "
        f"{card or f'{platform.machine()}, {cores}'}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}.\n"
    )


def keep(text, out):
    """Print a result, and write it to the file ``out`` if there is one."""
    print(text)
    if out is not None:
        Path(out).write_text(text.rstrip() + "\n", encoding="utf-8")
