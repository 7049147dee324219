"""Whether each neuron fires at each token, from hooks of our own, one sentence at a time."""

from itertools import product

import torch
from tokenizers.processors import TemplateProcessing

from tests.helpers.families import tiny
from tests.helpers.probes import trained
from tests.helpers.tiny import tokenizer_of


def marked_tokenizer(corpus):
    """A tokenizer that puts special tokens at both ends of a sentence."""
    texts = [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    tokenizer = tokenizer_of(texts)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def dense():
    model = trained()
    return model, [(layer.mlp.gate_proj, None) for layer in model.model.layers]


def routed():
    model = tiny("qwen3_moe", vocab_size=400)
    return model, [(layer.mlp.experts, layer.mlp.experts) for layer in model.model.layers]


def encoder():
    model = tiny("bart", vocab_size=400)
    return model, [(layer.fc1, None) for layer in model.model.encoder.layers]


def firing_of(model, hooked, ids):
    """Per layer whether each neuron is above 0 at each token [tokens, neurons]; one sentence."""
    found = [None] * len(hooked)

    def keep(layer, experts):
        def hook(module, inputs, output):
            if experts is None:
                found[layer] = output.reshape(-1, output.shape[-1]) > 0
                return
            states, chosen = inputs[0].reshape(-1, inputs[0].shape[-1]), inputs[1]
            gates, _ = experts.gate_up_proj.chunk(2, dim=1)
            on = torch.zeros(len(states), len(gates), gates.shape[1], dtype=torch.bool)
            for token, expert in product(range(len(states)), range(len(gates))):
                if expert in chosen[token]:
                    on[token, expert] = gates[expert] @ states[token] > 0
            found[layer] = on.flatten(1)

        return hook

    handles = [each.register_forward_hook(keep(k, e)) for k, (each, e) in enumerate(hooked)]
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    for handle in handles:
        handle.remove()
    return found


def states(model, hooked, tokenizer, corpus):
    """on[layer][language][pair], booleans [real tokens, neurons], without special tokens."""
    first = next(iter(corpus.pairs.values()))
    texts = [[pair[0] for pair in first]]
    texts += [[pair[1] for pair in pairs] for pairs in corpus.pairs.values()]
    found = [
        [firing_of(model, hooked, tokenizer(text)["input_ids"]) for text in side] for side in texts
    ]
    return [
        [[sentence[layer][1:-1].tolist() for sentence in side] for side in found]
        for layer in range(len(hooked))
    ]
