"""What a probe costs, as counts: forwards, operators per layer, padding. No clock."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from neuronxa_callback import ParallelCorpus, Probe, ProbeConfig
from tests.helpers.tiny import llama, tokenizer_of

LANGUAGES = ("deu_Latn", "fra_Latn", "swh_Latn", "zho_Hans")
VIEWS = {"view", "_unsafe_view", "expand", "slice", "select", "unsqueeze", "squeeze", "transpose"}
VIEWS |= {"t", "permute", "detach", "alias", "reshape", "unbind", "as_strided", "diagonal"}


class LaunchCount(TorchDispatchMode):
    """Counts the operators that do work; a view launches nothing."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in VIEWS:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def corpus():
    return ParallelCorpus.builtin("dev", LANGUAGES)


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return tokenizer_of(
        [text for pairs in corpus.pairs.values() for pair in pairs for text in pair]
    )


def run_counted(corpus, tokenizer, layers, **options):
    """The report, the number of forwards and the number of operators of one probe."""
    model = llama(num_hidden_layers=layers)
    probe = Probe(ProbeConfig(corpus=corpus, **options), tokenizer)
    forwards = []
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    # The first probe of a model also proves that it is read right.
    probe.run(model)
    forwards.clear()
    with LaunchCount() as launches:
        report = probe.run(model)
    return report, len(forwards), sum(launches.counts.values())


def bare_launches(layers):
    """Operators of one forward of the model alone."""
    model, ids = llama(num_hidden_layers=layers), torch.arange(16).reshape(2, 8) + 10
    with torch.no_grad(), LaunchCount() as launches:
        model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=1)
    return sum(launches.counts.values())


def launches_per_layer(corpus, tokenizer, **options):
    """Our own operators for one more layer in one forward."""
    few, many = 2, 6
    _, forwards, least = run_counted(corpus, tokenizer, few, **options)
    _, same, most = run_counted(corpus, tokenizer, many, **options)
    assert same == forwards
    ours = (most - least) / forwards - (bare_launches(many) - bare_launches(few))
    return ours / (many - few)


def test_little_of_a_forward_is_padding(corpus, tokenizer):
    report, _, _ = run_counted(corpus, tokenizer, 1, metrics=("nasca",), diagnostics=("tokens",))
    assert report.diagnostics["tokens"]["padding"] < 0.15


def test_larger_microbatches_need_fewer_forwards(corpus, tokenizer):
    _, forwards, _ = run_counted(corpus, tokenizer, 1, metrics=("nasca",), diagnostics=())
    _, smaller, _ = run_counted(
        corpus, tokenizer, 1, metrics=("nasca",), diagnostics=(), batch_tokens=1024
    )
    assert forwards < smaller


def test_metrics_and_diagnostics_need_no_further_forward(corpus, tokenizer):
    _, one, _ = run_counted(corpus, tokenizer, 1, metrics=("nasca",), diagnostics=())
    _, more, _ = run_counted(corpus, tokenizer, 1, metrics=("nasca", "navca", "mexa"))
    assert one == more


@pytest.mark.parametrize(
    ("options", "most"),
    [
        pytest.param({"metrics": ("nasca",), "diagnostics": ()}, 24, id="nasca"),
        pytest.param({}, 60, id="default"),
    ],
)
def test_a_layer_costs_few_operators(corpus, tokenizer, options, most):
    launches = launches_per_layer(corpus, tokenizer, **options)
    assert 0 < launches <= most, launches
