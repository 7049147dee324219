"""Pooled vectors are the same with left, right and no padding: weights come from the mask."""

import pytest
import torch

from neuronxa_callback.metrics import alignment
from neuronxa_callback.metrics.registry import ALIGNMENT, reads_of
from neuronxa_callback.probe import pooling
from neuronxa_callback.probe.batching import Batch, Sentence
from neuronxa_callback.probe.pooling import Pooling
from neuronxa_callback.taps.plan import discover
from tests.helpers import oracle
from tests.helpers.families import tiny
from tests.helpers.tiny import parallel

READS = reads_of(tuple(ALIGNMENT), ("sinks", "activity"))
SITES = {"gate": "nas", "product": "nav"}
# Models whose positions are numbers of places: a caller who pads on the left must give them.
ABSOLUTE = ("gpt2",)
FAMILIES = ("llama", "qwen2", "qwen3", "mistral", "gemma", "gemma3", "olmo2", "glm4", *ABSOLUTE)


class Pooled:
    """A sink that pools as a probe does: (source, part) -> [sentences, rows, width]."""

    def __init__(self, batch):
        self.pooling, self.vectors = Pooling(batch, READS), {}

    def dense(self, part, site, states, start):
        (read,) = [read for read in READS if read.source == SITES.get(site, site)]
        self.vectors[read.source, part] = self.pooling.dense(read, states, start)


def vectors(model, batch, with_positions):
    """Pooled vectors of a batch over the sum of their weights."""
    sink, shape = Pooled(batch), tuple(batch.ids.shape)
    given = {"attention_mask": batch.mask.long(), "output_hidden_states": True}
    if with_positions:
        given["position_ids"] = (alignment.positions(batch.mask).long() - 1).clamp(min=0)

    def forward():
        return model(input_ids=batch.ids, use_cache=False, **given)

    plan = discover(model, forward)
    with torch.no_grad(), plan.attach(model, tuple(SITES), sink, lambda: shape) as reader:
        reader.begin()
        hidden = forward().hidden_states
        reader.end()
    assert reader.error is None
    for layer, states in enumerate(hidden):
        sink.dense(layer, "hidden", states, 0)
    return {
        place: found.pooled / sink.pooling.weights[place[0]].sum(dim=2, keepdim=True)
        for place, found in sink.vectors.items()
    }


@pytest.fixture(scope="module")
def sentences(tokenizer):
    texts = [pair[0] for pair in parallel(5).pairs["deu_Latn"]]
    found = [Sentence(tuple(tokenizer(text)["input_ids"]), ()) for text in texts]
    found = [Sentence(each.ids, (True,) + (False,) * (len(each.ids) - 1)) for each in found]
    assert len({len(each.ids) for each in found}) > 2
    return found


def agree(model, sentences, with_positions):
    alone = [vectors(model, oracle.padded([each], "right"), False) for each in sentences]
    wanted = {place: torch.cat([each[place] for each in alone]) for place in alone[0]}
    for side in ("left", "right"):
        batch = oracle.padded(sentences, side)
        assert not batch.mask.all(dim=1).all()
        found = vectors(model, batch, with_positions)
        assert found.keys() == wanted.keys()
        for place, each in found.items():
            torch.testing.assert_close(each, wanted[place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_do_not_depend_on_the_side_of_padding(family, sentences):
    # In float64, so that no activation state is near enough to zero to flip.
    model = tiny(family, vocab_size=400).double()
    agree(model, sentences, with_positions=family in ABSOLUTE)


@pytest.mark.parametrize("family", ABSOLUTE)
def test_absolute_positions_are_not_those_of_padding(family, sentences):
    model = tiny(family, vocab_size=400).double()
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        agree(model, sentences, with_positions=False)


@pytest.mark.parametrize("source", ["nas", "nav", "hidden"])
@pytest.mark.parametrize("block", [1, 2**10, 2**30])
def test_blocks_of_sentences_change_no_bit(source, block, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(7, 5, 96, generator=generator)
    mask = torch.ones(7, 5, dtype=torch.bool)
    mask[2, 3:] = False
    (read,) = [read for read in READS if read.source == source]
    batch = Batch(mask.long(), mask, torch.zeros_like(mask))
    calls, original = [], alignment.pool
    monkeypatch.setattr(alignment, "pool", lambda *args: (calls.append(args), original(*args))[1])
    whole = Pooling(batch, READS).dense(read, states, 0)
    calls.clear()
    monkeypatch.setattr(pooling, "CPU_BLOCK", block)
    found = Pooling(batch, READS).dense(read, states, 0)
    assert len(calls) == {1: 7, 2**10: 4, 2**30: 1}[block]
    for name in ("pooled", "token_sizes", "active"):
        one, other = getattr(found, name), getattr(whole, name)
        assert one is other is None or torch.equal(one, other)
