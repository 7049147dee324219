"""Out of memory: it is recognised, what it holds is freed, and the next probe needs less."""

import gc

import pytest
import torch

from neuronxa_callback import MemorySink, NeuronXACallback, Probe
from neuronxa_callback.errors import ProbeMemoryError
from neuronxa_callback.probe.memory import free_memory, is_oom
from neuronxa_callback.probe.similarity import Pivot
from tests.helpers.probes import config_of
from tests.helpers.runs import tokenizer_for, trainer_of
from tests.helpers.tiny import llama, parallel


def error_of(act):
    with pytest.raises(RuntimeError) as caught:
        act()
    return caught.value


def test_out_of_memory_has_more_than_one_error():
    assert is_oom(error_of(lambda: torch.empty(2**60)))
    assert is_oom(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert is_oom(MemoryError())
    assert is_oom(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasLt`"))
    assert not is_oom(error_of(lambda: torch.ones(2) @ torch.ones(3)))
    assert not is_oom(ValueError("out of memory. no"))


def test_what_an_error_holds_is_released():
    class Held:
        released = False

        def __del__(self):
            Held.released = True

    def fails():
        held = Held()
        raise RuntimeError(f"with {type(held).__name__}")

    error = error_of(fails)
    assert not Held.released
    free_memory(error)
    assert Held.released


def fail_above(model, tokens):
    """A model whose forward runs out of memory in eval mode, above a number of tokens."""

    def fail(module, args, kwargs):
        if kwargs["input_ids"].numel() > tokens and not module.training:
            raise torch.OutOfMemoryError("no room")

    model.register_forward_pre_hook(fail, with_kwargs=True)
    return model


def test_a_probe_that_runs_out_of_memory_has_released_its_vectors_when_it_raises(tokenizer, corpus):
    probe = Probe(config_of(corpus, batch_tokens=200), tokenizer)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(ProbeMemoryError, match="the next one runs 100 tokens at a time"):
            probe.run(fail_above(llama(), 100))
        assert not [each for each in gc.get_objects() if type(each) is Pivot]
    finally:
        gc.enable()


def test_a_first_probe_that_runs_out_of_memory_is_retried_with_less(tmp_path, caplog):
    corpus, sink = parallel(10), MemorySink()
    tokenizer, model = tokenizer_for(corpus), fail_above(llama(), 60)
    callback = NeuronXACallback(config_of(corpus, batch_tokens=200), sinks=[sink])
    trainer_of(tokenizer, tmp_path, [callback], model, {"max_steps": 1}).train()
    used = [report.fingerprint["environment"]["batch_tokens"] for report in sink.reports]
    assert [report.step for report in sink.reports] == [0, 1]
    assert used == [50, 50]
    logged = [record.message for record in caplog.records if "memory ran out" in record.message]
    assert logged == [
        f"memory ran out in a probe; the next one runs {tokens} tokens at a time"
        " (OutOfMemoryError: no room)"
        for tokens in (100, 50)
    ]
