"""A probe leaves the model as it was, also after an exception, also where forwards write."""

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from neuronxa_callback.errors import ProbeError
from neuronxa_callback.probe.model_state import LARGE, preserve_model_state, weights_checksum


class Growing(nn.Module):
    """Writes in its forward, as some rotary embeddings, FP8 scales and router counters do."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(2))
        self.register_buffer("table", torch.zeros(2))
        self.longest = 2
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        self.scale += 1
        if len(x) > self.longest:
            self.longest = len(x)
            self.register_buffer("table", torch.arange(len(x)))
        return self.drop(x)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails):
    model = Growing()
    model.drop.eval()
    scale, table = model.scale, model.table
    kept = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), preserve_model_state(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        model(torch.rand(5))
        random.random(), np.random.rand(), torch.rand(1)
        if fails:
            raise ZeroDivisionError
    assert model.training
    assert not model.drop.training
    assert model.scale is scale
    assert model.table is table
    assert model.scale.tolist() == [1, 1]
    assert model.longest == 2
    assert torch.is_grad_enabled()
    assert random.getstate() == kept[0]
    assert np.random.get_state()[1].tolist() == kept[1]
    assert torch.equal(torch.get_rng_state(), kept[2])


def test_a_buffer_that_was_empty_is_empty_afterwards():
    model = nn.Linear(2, 2)
    model.register_buffer("seen", None)
    with preserve_model_state(model):
        model.seen = torch.ones(2)
    assert model.seen is None
    assert list(model.state_dict()) == ["weight", "bias"]


def test_large_buffers_are_not_copied_and_writing_to_one_is_an_error():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Dropout())
    model[0].register_buffer("qweight", torch.zeros(LARGE + 1, dtype=torch.int8))
    model[1].register_buffer("small", torch.zeros(LARGE, dtype=torch.int8))

    def write(*buffers):
        with preserve_model_state(model):
            for buffer in buffers:
                buffer += 1

    write(model[1].small)
    assert not model[1].small.any()
    with pytest.raises(ProbeError) as caught:
        write(model[0].qweight, model[1].small)
    assert str(caught.value) == (
        "a forward pass in eval mode must leave large tensors as they are, but Linear.qweight was"
        " written to, and there is no copy of it; probe saved checkpoints with `neuronxa sweep`"
        " instead"
    )
    assert not model[1].small.any()
    assert model[2].training


class Scaled(nn.Module):
    """An FP8-like layer: no buffers, its scales and counters are plain attributes."""

    def __init__(self, scale):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.scale, self.history, self.steps, self.how = scale, torch.zeros(3), 0, "first"

    def forward(self, x):
        self.scale = self.scale * 2
        self.history[self.steps] = x.abs().amax()
        self.steps, self.how = self.steps + 1, "later"
        return x * self.weight * self.scale


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("scale", [3.0, torch.tensor(3.0)])
def test_plain_attributes_are_put_back_where_there_is_no_buffer(scale, fails):
    model = nn.Sequential(Scaled(scale), nn.Linear(2, 2))
    layer = model[0]
    history = layer.history
    with pytest.raises(ZeroDivisionError) if fails else nullcontext(), preserve_model_state(model):
        model(torch.rand(4, 2))
        assert layer.scale == 6
        assert layer.steps == 1
        if fails:
            raise ZeroDivisionError
    assert layer.scale is scale
    assert layer.history is history
    assert history.tolist() == [0, 0, 0]
    assert (layer.steps, layer.how, layer.training) == (0, "first", True)
    assert layer.weight.requires_grad
    assert scale == 3


def test_tensors_of_inference_mode_are_no_hindrance():
    layer = nn.Linear(2, 2)
    with torch.inference_mode():
        layer.cache = torch.ones(2)
        layer.register_buffer("rotary", torch.ones(2))
    cache, rotary = layer.cache, layer.rotary
    with preserve_model_state(layer):
        layer.cache, layer.rotary = torch.zeros(2), torch.zeros(2)
    assert layer.cache is cache
    assert layer.rotary is rotary


def test_weights_that_sharding_moves_are_left_to_it():
    """As FSDP does: views of one flat tensor while a layer is gathered, parameters otherwise."""
    layer, flat = nn.Linear(2, 2, bias=False), torch.zeros(4)
    weight = layer._parameters.pop("weight")
    layer.weight = flat.view(2, 2)
    with preserve_model_state(layer):
        layer(torch.rand(1, 2))
        del layer.weight
        layer.weight = weight
    assert layer.weight is weight
    assert "weight" not in vars(layer)


def test_modules_that_override_train_and_eval_are_not_asked():
    class Loud(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("a probe must not call train() or eval()")

    model = nn.Sequential(Loud(2, 2))
    with preserve_model_state(model):
        assert not model[0].training
    assert model[0].training


def test_hooks_fire_inside_of_compiled_code():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model.compile(backend="eager")
    model(torch.rand(1, 2))
    fired = []
    handle = model[0].register_forward_hook(lambda *_: fired.append(1))
    with preserve_model_state(model):
        model(torch.rand(1, 2))
    handle.remove()
    assert fired == [1]


def test_equal_weights_have_equal_checksums_and_others_have_none_or_another():
    model, same = nn.Linear(3, 2), nn.Linear(3, 2)
    same.load_state_dict(model.state_dict())
    assert weights_checksum(model) == weights_checksum(same)
    with torch.no_grad():
        same.weight[:] = same.weight.flip(0)
    assert weights_checksum(model) != weights_checksum(same)


UNREADABLE = {
    "sparse": torch.eye(2).to_sparse(),
    "compressed": torch.eye(2).to_sparse_csr(),
    "complex": torch.ones(2, dtype=torch.complex128),
    "meta": torch.ones(2, device="meta"),
}


@pytest.mark.parametrize("buffer", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
def test_weights_that_cannot_be_read_have_no_checksum(buffer):
    model = nn.Linear(2, 2)
    model.register_buffer("strange", buffer)
    assert weights_checksum(model) is None
