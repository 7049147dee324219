"""Models of plain PyTorch, and NASCA by a loop of one's own."""

import torch
from torch import nn
from torch.nn import functional

from neuronxa_callback import Probe
from tests.helpers.oracle import mask, vector, verdicts
from tests.helpers.probes import config_of, half_translated
from tests.helpers.tiny import tokenizer_of

CORPUS = half_translated(8)
TEXTS = [text for pairs in CORPUS.pairs.values() for pair in pairs for text in pair]
TOKENIZER = tokenizer_of(TEXTS)
WIDTH = 24


class Block(nn.Module):
    def __init__(self, causal):
        super().__init__()
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(WIDTH),
            nn.Linear(WIDTH, 3 * WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )
        self.fc, self.act, self.proj = nn.Linear(WIDTH, 60), nn.GELU(), nn.Linear(60, WIDTH)
        self.causal = causal

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unsqueeze(1).chunk(3, -1)
        x = x + self.out(
            functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)[:, 0]
        )
        return x + self.proj(self.act(self.fc(x)))


class Net(nn.Module):
    """Subclasses choose the arguments of ``forward`` and the name of the list of blocks."""

    blocks_name = "blocks"

    def __init__(self, causal=True):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(400, WIDTH), nn.Embedding(64, WIDTH)
        setattr(self, self.blocks_name, nn.ModuleList(Block(causal) for _ in range(3)))
        self.head = nn.Linear(WIDTH, 400)

    def logits(self, ids):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1]))
        for block in getattr(self, self.blocks_name):
            x = block(x)
        return self.head(x)

    def loss(self, ids, labels):
        return functional.cross_entropy(self.logits(ids).flatten(0, 1), labels.flatten())


class NanoGPT(Net):
    blocks_name = "h"

    def forward(self, idx, targets=None):
        return self.logits(idx), None


class OneArgument(Net):
    def forward(self, x):
        return self.logits(x)


def spread(model, seed=0):
    """The model with weights that tell sentences apart."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def own_loop(model, run, activation=nn.GELU):
    """NASCA's verdicts per layer: hooks on the activations, one sentence at a time."""
    states = []
    hooks = [
        module.register_forward_hook(lambda _, __, out: states.append(out[0].double()))
        for module in model.modules()
        if isinstance(module, activation)
    ]

    def vectors(text):
        states.clear()
        with torch.no_grad():
            run(model, torch.tensor([TOKENIZER(text)["input_ids"]]))
        return [vector(each, "nas") for each in states]

    found = {}
    for language, pairs in CORPUS.pairs.items():
        sides = [list(zip(*map(vectors, side), strict=True)) for side in zip(*pairs, strict=True)]
        found[language] = tuple(mask(verdicts(*layer)) for layer in zip(*sides, strict=True))
    for hook in hooks:
        hook.remove()
    return found


def probed(model, forward=None, **options):
    return Probe(config_of(CORPUS, **options), TOKENIZER, forward=forward).run(model)


def hits_of(report):
    return {language: tuple(hits) for language, hits in report.metrics["nasca"].hits.items()}


def verdicts_of_nanogpt():
    """The verdicts of every causal model here: they have the same weights."""
    found = own_loop(spread(NanoGPT()), lambda model, ids: model(ids))
    assert len(set(found["deu_Latn"])) > 1
    return found
