"""The short trainings of ``along.py``: a rise and two on English alone.

The model computes in float32. The softmax of the training loss is over the tokens that the lines of
the seven languages have (of Gemma's 262,144); the probe reads no logits, and the kept bits per
sentence are over all tokens.
"""

import random
from dataclasses import dataclass

import flores
import torch
from torch.nn import functional

SEED = 0
BATCH = 8
"""Sentences of a step."""
TURNED = 0.3
"""Share of the dimensions that the damage turns."""
RATES = {"rise": 6e-2, "fall": 1e-3, "mild": 2e-4}
"""Learning rates of the first step; they fall to 0 in a straight line."""


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of some lines, and a place for each."""

    ids: torch.Tensor
    """Ids of the tokenizer [tokens], in increasing order."""

    @classmethod
    def of(cls, tokenizer, lines):
        return cls(torch.tensor(sorted({i for ids in tokenizer(lines)["input_ids"] for i in ids})))

    def places(self, ids):
        """The places of ids, all of which the vocabulary has."""
        return torch.searchsorted(self.ids, ids)


def batches(tokenizer, lines, steps):
    """(ids, mask) of one step after another, in a fixed random order."""
    order, draw = [], random.Random(SEED)
    for _ in range(steps):
        while len(order) < BATCH:
            order += draw.sample(range(len(lines)), len(lines))
        rows, order = order[:BATCH], order[BATCH:]
        encoded = tokenizer([lines[k] for k in rows], padding=True, return_tensors="pt")
        yield encoded["input_ids"], encoded["attention_mask"].bool()


class Training:
    """Trains a model on lines of one language, one ``step`` at a time."""

    def __init__(self, model, vocabulary, weights, rate, steps):
        self.model, self.vocabulary = model, vocabulary
        self.embeddings = model.get_input_embeddings()
        self.rows = self.embeddings.weight.detach()[vocabulary.ids].clone()
        for weight in weights:
            weight.requires_grad_(True)
        self.optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, steps)
        self.weights = weights

    def table(self):
        """The input embeddings [tokens, width] of the vocabulary."""
        return self.rows

    def step(self, ids, mask):
        """One step of AdamW; returns the loss in nats per token.

        With padding on the left, as Gemma's tokenizer does it, the first token of a shorter line is
        a label, too, predicted from padding; as in the model's own loss.
        """
        places = self.vocabulary.places(ids)
        scale = getattr(self.embeddings, "embed_scale", 1.0)
        inputs = functional.embedding(places, self.table()) * scale
        states = self.model.model(
            inputs_embeds=inputs, attention_mask=mask.long(), use_cache=False
        ).last_hidden_state
        labels = places.masked_fill(~mask, -100)[:, 1:]
        logits = states[:, :-1] @ self.rows.T
        loss = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.write()
        return loss.item()

    def write(self):
        """Puts the trained embeddings into the model."""


class Repair(Training):
    """Input embeddings of some tokens are damaged and repaired; all other weights rest.

    The damage turns the sign of ``TURNED`` of the dimensions of these tokens' embeddings. What is
    trained is one factor per dimension, the same for all these tokens. The output embeddings are
    no longer tied to the input and stay as they were.
    """

    def __init__(self, model, vocabulary, tokens, rate, steps):
        self.factors = torch.nn.Parameter(torch.ones(model.config.hidden_size))
        super().__init__(model, vocabulary, [self.factors], rate, steps)
        self.own = torch.isin(vocabulary.ids, tokens)
        draw = torch.rand(len(self.factors), generator=torch.Generator().manual_seed(SEED))
        damage = torch.where(draw < TURNED, -1.0, 1.0)
        self.damaged = torch.where(self.own[:, None], self.rows * damage, self.rows)
        model.lm_head.weight = torch.nn.Parameter(self.embeddings.weight.clone(), False)
        self.write()

    def table(self):
        return torch.where(self.own[:, None], self.damaged * self.factors, self.damaged)

    @torch.no_grad()
    def write(self):
        self.embeddings.weight[self.vocabulary.ids[self.own]] = self.table()[self.own]


def prepare(kind, model, tokenizer, data, languages, middling, steps):
    """A training of ``RATES`` at its start, and its lines."""
    torch.manual_seed(SEED)
    for weight in model.parameters():
        weight.requires_grad_(False)
    _, train, _ = flores.split(data)
    names = (flores.PIVOT, *languages)
    lines = {name: flores.lines_of(data, name) for name in names}
    vocabulary = Vocabulary.of(tokenizer, [line for name in names for line in lines[name]])
    if kind == "rise":
        others = [line for name in names if name != middling for line in lines[name]]
        own = Vocabulary.of(tokenizer, lines[middling]).ids
        own = own[~torch.isin(own, Vocabulary.of(tokenizer, others).ids)]
        training = Repair(model, vocabulary, own, RATES[kind], steps)
        return training, [lines[middling][k] for k in train]
    table = model.get_input_embeddings().weight
    weights = [weight for weight in model.parameters() if weight is not table]
    training = Training(model, vocabulary, weights, RATES[kind], steps)
    return training, [lines[flores.PIVOT][k] for k in train]
