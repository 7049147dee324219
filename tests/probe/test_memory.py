"""Memory that runs out, and where large vectors lie."""

import pytest
import torch

from neuronxa_callback import NeuronXACallback, Probe, ProbeConfig
from neuronxa_callback.probe.memory import free_memory, is_oom
from neuronxa_callback.probe.similarity import HELD_ON_DEVICE, storage_device
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import llama, parallel

CORPUS = parallel(10)
CONFIG = ProbeConfig(corpus=CORPUS, n_pairs=10)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for(CORPUS)


def error_of(act):
    with pytest.raises(RuntimeError) as caught:
        act()
    return caught.value


def test_memory_runs_out_in_more_than_one_way():
    assert is_oom(error_of(lambda: torch.empty(2**60)))
    assert is_oom(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_oom(MemoryError())
    assert is_oom(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasLt`"))
    assert not is_oom(error_of(lambda: torch.ones(2) @ torch.ones(3)))
    assert not is_oom(ValueError("out of memory. no"))


def test_what_an_error_holds_is_let_go():
    class Held:
        gone = False

        def __del__(self):
            Held.gone = True

    def fails():
        held = Held()
        raise RuntimeError(f"with {type(held).__name__}")

    error = error_of(fails)
    assert not Held.gone
    free_memory(torch.device("cpu"), error)
    assert Held.gone


def test_a_first_probe_for_which_memory_is_short_tries_with_less(tokenizer, tmp_path, caplog):
    model = llama()

    def short(module, args, kwargs):
        if kwargs["input_ids"].numel() > 60 and not module.training:
            raise torch.OutOfMemoryError("no room")

    model.register_forward_pre_hook(short, with_kwargs=True)
    callback = NeuronXACallback(ProbeConfig(corpus=CORPUS, n_pairs=10, batch_tokens=200))
    trainer_of(tokenizer, tmp_path, [callback], model, {"max_steps": 1}).train()
    report = callback.history.points[-1]
    assert [point.step for point in callback.history.points] == [0, 1]
    assert report.step == 1
    assert callback._probe.batch_tokens == 50
    said = [record.message for record in caplog.records if "memory ran out" in record.message]
    assert said == [
        f"memory ran out in a probe; the next one runs {tokens} tokens at a time"
        " (OutOfMemoryError: no room)"
        for tokens in (100, 50)
    ]


def test_large_vectors_are_held_on_the_host():
    device = torch.device("cuda")
    assert storage_device(HELD_ON_DEVICE, device) == device
    assert storage_device(HELD_ON_DEVICE + 1, device) == torch.device("cpu")


def test_the_bytes_of_the_pivot_are_stated(tokenizer):
    model = llama().eval()
    report = Probe(CONFIG, tokenizer).run(model)
    neurons = model.config.intermediate_size * model.config.num_hidden_layers
    # Two metrics, and NAVCA without special tokens.
    assert report.run["pivot_bytes"] == 3 * 10 * neurons * 4
