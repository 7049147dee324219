"""The executor: the pivots that it holds, its progress, and what happens when a rank fails."""

from dataclasses import dataclass, field

import pytest
import torch

from neuronxa_callback import TapError
from neuronxa_callback.errors import BrokenForwardError
from neuronxa_callback.metrics.registry import ALIGNMENT
from neuronxa_callback.probe.distributed import OtherRankFailedError, World
from neuronxa_callback.probe.tokenization import SentenceTokenizer
from tests.helpers import oracle
from tests.helpers.probes import config_of, executor_of, measure, trained
from tests.helpers.tiny import SPELLING, llama, parallel


def test_pooled_vectors_equal_the_definition(tokenizer):
    corpus, model = parallel(6, ("deu_Latn",)), trained().double()
    config = config_of(corpus, metrics=tuple(ALIGNMENT))
    vectors = measure(model, tokenizer, config).pivots[0].vectors
    texts = [pair[0] for pair in corpus.pairs["deu_Latn"]]
    tokenize = SentenceTokenizer(tokenizer, config)
    expected = oracle.vectors_of(model, tokenize, texts)
    for metric in ALIGNMENT:
        for layer, rows in enumerate(expected[metric]):
            for text, ours, row in zip(texts, vectors[metric, layer], rows, strict=True):
                length = len(tokenize(text).ids)
                scale = 1 if metric == "mexa_last" else length * (length + 1) / 2
                assert ours / scale == pytest.approx(torch.tensor(row).float(), abs=1e-6)


def test_languages_with_one_pivot_share_its_vectors(tokenizer):
    config = config_of(parallel(8, tuple(SPELLING)))
    measurement = measure(llama(), tokenizer, config)
    (pivot,) = measurement.pivots.values()
    assert {len(each) for each in pivot.vectors.values()} == {8}
    assert set(measurement.results.scores["nasca"]) == set(SPELLING)
    assert measurement.dtype == "float32"


def test_progress_counts_the_microbatches_of_this_rank(tokenizer, corpus):
    calls = []
    config = config_of(corpus, batch_tokens=32)
    measure(llama(), tokenizer, config, progress=lambda *call: calls.append(call))
    assert len(calls) > 6
    assert calls == [(k + 1, len(calls)) for k in range(len(calls))]


def fail_at_call(model, number):
    """A model whose forward fails at one call."""
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == number:
            raise ValueError("a kernel broke")

    model.register_forward_pre_hook(fail)
    return model


def hooks_of(model):
    return [(list(m._forward_hooks), list(m._forward_pre_hooks)) for m in model.modules()]


def test_a_failing_forward_is_the_error_of_this_rank(tokenizer, corpus):
    model = llama()
    executor = executor_of(model, tokenizer, config_of(corpus, batch_tokens=32))
    fail_at_call(model, 3)
    before = hooks_of(model)
    with pytest.raises(ValueError, match="a kernel broke"):
        executor.run()
    assert hooks_of(model) == before


def test_a_failing_collective_forward_ends_the_job(tokenizer, corpus):
    model = llama()
    executor = executor_of(model, tokenizer, config_of(corpus), collective=True)
    fail_at_call(model, 1)
    with pytest.raises(BrokenForwardError) as caught:
        executor.run()
    assert str(caught.value) == (
        "the model's forward failed in a probe while its weights are spread over ranks, so the job"
        " ends as it would in training: ValueError: a kernel broke"
    )


@dataclass(frozen=True)
class FailedElsewhere(World):
    """Another rank has failed when this one begins its fifth forward."""

    begun: list = field(default_factory=list)

    def confirm(self):
        self.begun.append(1)
        if len(self.begun) == 5:
            raise OtherRankFailedError


def test_a_failure_on_another_rank_stops_this_one_at_its_next_exchange(tokenizer, corpus):
    model, config = llama(), config_of(corpus, batch_tokens=32)
    executor = executor_of(model, tokenizer, config, FailedElsewhere(), collective=True)
    before = hooks_of(model)
    with pytest.raises(OtherRankFailedError):
        executor.run()
    assert executor.done == 2
    assert hooks_of(model) == before


def test_a_model_that_lost_its_modules_is_refused(tokenizer, corpus):
    model = llama()
    executor = executor_of(model, tokenizer, config_of(corpus))
    del model.model.layers[1].mlp.down_proj
    with pytest.raises(TapError, match="must have the modules"):
        executor.run()
