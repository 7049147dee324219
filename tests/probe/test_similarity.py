"""Where the vectors of a pivot are stored, and how much they take."""

import pytest
import torch

from neuronxa_callback import Probe
from neuronxa_callback.probe.memory import HELD_ON_DEVICE, storage_device
from tests.helpers.probes import config_of
from tests.helpers.tiny import SPELLING, llama, parallel


def test_large_vectors_are_stored_on_the_host():
    device = torch.device("cuda")
    assert storage_device(HELD_ON_DEVICE, device) == device
    assert storage_device(HELD_ON_DEVICE + 1, device) == torch.device("cpu")


@pytest.mark.parametrize(("free", "held", "where"), [(3, 0, "cpu"), (4, 0, "cuda"), (1, 3, "cuda")])
def test_large_vectors_stay_on_a_gpu_with_much_free_memory(monkeypatch, free, held, where):
    large = HELD_ON_DEVICE + 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * large, 99 * large))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: (5 + held) * large)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 5 * large)
    assert storage_device(large, torch.device("cuda")).type == where


def test_the_bytes_of_the_pivot_do_not_grow_with_the_languages(tokenizer):
    model = llama()
    neurons = model.config.intermediate_size * model.config.num_hidden_layers
    for languages in (("deu_Latn",), tuple(SPELLING)):
        report = Probe(config_of(parallel(10, languages)), tokenizer).run(model)
        # Two metrics, and NAVCA without special tokens.
        assert report.run["pivot_bytes"] == 3 * 10 * neurons * 4
