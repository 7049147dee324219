"""Tiny parts that are built offline in milliseconds: corpus, tokenizer, model."""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neuronxa_callback import ParallelCorpus

NOUNS = [
    "river",
    "bread",
    "window",
    "garden",
    "letter",
    "winter",
    "doctor",
    "kitchen",
    "stone",
    "music",
    "tree",
    "shoe",
]
VERBS = ["opens", "finds", "carries", "paints", "hides", "forgets", "follows", "breaks"]
SPELLING = {"deu_Latn": "xqz", "fra_Latn": "vwk", "spa_Latn": "jyh"}


def sentences(n, seed=0):
    draw = random.Random(seed)
    found = {}
    while len(found) < n:
        length = draw.randint(2, 6)
        words = [draw.choice(NOUNS if k % 2 == 0 else VERBS) for k in range(length)]
        found[" ".join(words).capitalize() + "."] = None
    return list(found)


def translated(sentence, code):
    """Words of another language: other letters, another order."""
    words = [word[::-1] + SPELLING[code][len(word) % 3] for word in sentence.rstrip(".").split()]
    return " ".join(reversed(words)) + "."


def parallel(n=12, languages=("deu_Latn", "fra_Latn"), seed=0):
    english = sentences(n, seed)
    return ParallelCorpus(
        "eng_Latn", {code: tuple((s, translated(s, code)) for s in english) for code in languages}
    )


def tokenizer_of(texts, vocab_size=400, **options):
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    options = {"pad_token": "<pad>", "eos_token": "</s>", "bos_token": "<s>"} | options
    return PreTrainedTokenizerFast(tokenizer_object=raw, **options)


def llama(seed=0, **overrides):
    torch.manual_seed(seed)
    options = {
        "vocab_size": 400,
        "hidden_size": 32,
        "intermediate_size": 88,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
    } | overrides
    return LlamaForCausalLM(LlamaConfig(**options)).eval()
