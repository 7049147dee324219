"""All pairs of languages through a whole probe, against double loops over hooked states."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch

from neuronxa_callback import AlignmentReport, ParallelCorpus, Probe
from neuronxa_callback.errors import ConfigError
from neuronxa_callback.probe.language_pairs.blocks import plan_blocks
from tests.helpers import oracle
from tests.helpers.ffn.firing import dense, encoder, firing_of, marked_tokenizer, routed
from tests.helpers.probes import config_of, trained
from tests.helpers.tiny import llama, parallel, sentences, tokenizer_of, translated

LANGUAGES = ("deu_Latn", "fra_Latn", "spa_Latn")
PAIRS = 12
METRICS = ("nasca", "navca", "mexa")


def near(n=PAIRS):
    """Languages of which some sentences are aligned: every second word is that of the pivot."""

    def half(sentence, code):
        words = [(word, translated(word, code)) for word in sentence.split()]
        return " ".join(pair[k % 2] for k, pair in enumerate(words))

    texts = sentences(n)
    return ParallelCorpus(
        "eng_Latn", {code: tuple((text, half(text, code)) for text in texts) for code in LANGUAGES}
    )


def sides(corpus):
    """Language -> its sentences, the pivot first."""
    pivot = [pair[0] for pair in corpus.pairs[LANGUAGES[0]]]
    return {corpus.pivot: pivot} | {
        code: [pair[1] for pair in pairs] for code, pairs in corpus.pairs.items()
    }


def pooled(on):
    """sum_t t n_tj over the tokens of a sentence [tokens, neurons], as a double loop."""
    rows = on.tolist()
    return [
        math.fsum(t * float(row[j]) for t, row in enumerate(rows, start=1))
        for j in range(len(rows[0]))
    ]


@pytest.mark.parametrize("make", [dense, routed, encoder], ids=lambda make: make.__name__)
def test_nasca_of_every_two_languages_equals_the_double_loop(make):
    corpus = near()
    model, hooked = make()
    tokenizer = marked_tokenizer(corpus)
    probe = Probe(config_of(corpus, metrics=["nasca"], batch_tokens=60), tokenizer)
    table = probe.run(model, pivot="all").language_pairs["nasca"]
    vectors = {
        name: [
            [pooled(each) for each in firing_of(model, hooked, tokenizer(text)["input_ids"])]
            for text in texts
        ]
        for name, texts in sides(corpus).items()
    }
    seen = 0
    for one, other in combinations(vectors, 2):
        for layer in range(len(hooked)):
            x, y = ([each[layer] for each in vectors[name]] for name in (one, other))
            hits = sum(oracle.verdicts(x, y))
            assert table.score(one, other, table.layers[layer]) == hits / PAIRS
            seen += hits
    assert 0 < seen < 6 * len(hooked) * PAIRS


def test_every_metric_equals_the_double_loop():
    corpus, model = near(), trained()
    probe = Probe(config_of(corpus, metrics=METRICS, batch_tokens=60), tokenizer_for(corpus))
    report = probe.run(model, pivot="all")
    vectors = {
        name: oracle.vectors_of(model, probe.tokenizer, texts)
        for name, texts in sides(corpus).items()
    }
    for metric in METRICS:
        table = report.language_pairs[metric]
        for one, other in combinations(vectors, 2):
            layers = zip(vectors[one][metric], vectors[other][metric], strict=True)
            expected = [sum(oracle.verdicts(x, y)) / PAIRS for x, y in layers]
            found = [table.score(one, other, layer) for layer in table.layers]
            assert found == expected
        assert len({*table.counts[-1]}) > 1, "some scores must differ"


def tokenizer_for(corpus):
    return tokenizer_of([text for texts in sides(corpus).values() for text in texts])


def test_each_row_is_that_of_a_probe_with_another_pivot():
    """Scores and intervals: a corpus whose pivot is another of the languages."""
    corpus, model = near(20), trained()
    tokenizer = tokenizer_for(corpus)
    tables = Probe(config_of(corpus), tokenizer).run(model, pivot="all").language_pairs
    texts = sides(corpus)
    for pivot in LANGUAGES:
        others = [name for name in texts if name != pivot]
        turned = ParallelCorpus(
            pivot, {name: tuple(zip(texts[pivot], texts[name], strict=True)) for name in others}
        )
        report = Probe(config_of(turned), tokenizer).run(model)
        for metric, table in tables.items():
            for name in others:
                assert table.score(pivot, name) == report.score(metric, name)
                curve = tuple(table.score(pivot, name, layer) for layer in table.layers)
                assert curve == report.curve(metric, name)
                ends = table.interval(pivot, name)
                # r depends on the signs of pairs only, so a transposed matrix has the same one.
                assert ends == pytest.approx(report.interval(metric, name), abs=5.1e-5)


def test_it_changes_no_other_number_by_one_bit_and_the_row_of_the_pivot_is_the_report():
    corpus, model = parallel(30, LANGUAGES), trained()
    config = config_of(corpus, metrics=METRICS, neurons=("overlap", "contrast"), batch_tokens=200)
    tokenizer = tokenizer_for(corpus)
    bare = Probe(config, tokenizer).run(model)
    full = Probe(config, tokenizer).run(model, pivot="all")
    assert replace(full, language_pairs={}).to_json() != full.to_json()
    assert replace(full, language_pairs={}) == bare
    for metric in METRICS:
        table = full.language_pairs[metric]
        for name in LANGUAGES:
            row = tuple(table.score(corpus.pivot, name, layer) for layer in table.layers)
            assert row == bare.curve(metric, name)
            assert table.interval(corpus.pivot, name) == bare.interval(metric, name)
    assert AlignmentReport.from_json(full.to_json()) == full


def test_blocks_of_layers_give_the_same_table_and_hold_fewer_vectors():
    corpus, model = parallel(20, LANGUAGES), trained()
    tokenizer = tokenizer_for(corpus)
    layer = 3 * 20 * 88 * 4
    lines, reports = [], []
    for gib in (1.0, 2 * layer / 2**30, layer / 2**30):
        config = config_of(corpus, language_pairs_gib=gib, batch_tokens=200, neurons=["sharing"])
        probe = Probe(config, tokenizer)
        probe.announce = lines.append
        reports.append(probe.run(model, pivot="all"))
    assert [report.run["pair_passes"] for report in reports] == [1, 3, 6]
    assert [report.run["pair_bytes"] for report in reports] == [6 * layer, 2 * layer, layer]
    assert reports[0] == reports[1] == reports[2]
    assert lines[0] == (
        "all pairs of 4 languages: 3 besides those with the pivot; their vectors take 124 KiB; the"
        " sentences run once, as without them; 6e+05 multiplications"
    )
    assert (
        "the sentences run 3 times, since the vectors of all layers take more than 41.2 KiB"
        " (language_pairs_gib); 6e+05" in lines[1]
    )


def test_nan_in_a_layer_is_nan_in_every_pair():
    corpus, model = parallel(12, LANGUAGES), trained()
    with torch.no_grad():
        model.model.layers[1].mlp.gate_proj.weight[5] = math.nan
    report = Probe(config_of(corpus), tokenizer_for(corpus)).run(model, pivot="all")
    table = report.language_pairs["nasca"]
    assert None not in table.counts[0]
    assert {*table.counts[1], *table.counts[2]} == {None}
    assert math.isnan(table.score("deu_Latn", "fra_Latn"))
    assert all(math.isnan(end) for ends in table.intervals for end in ends)
    assert AlignmentReport.from_json(report.to_json()) == report


def test_models_without_gates_are_measured():
    from transformers import GPT2Config, GPT2LMHeadModel

    corpus = parallel(12, LANGUAGES)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=2)).eval()
    report = Probe(config_of(corpus), tokenizer_for(corpus)).run(model, pivot="all")
    assert len(report.language_pairs["nasca"].counts[0]) == 6


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (
            parallel(12, ("deu_Latn",)),
            "pivot='all' needs at least 2 languages besides the pivot, got only deu_Latn; name more"
            " languages, or leave pivot out",
        ),
        (
            ParallelCorpus(
                "eng_Latn",
                {
                    **parallel(12, ("deu_Latn",), seed=3).pairs,
                    **parallel(12, ("fra_Latn",), seed=4).pairs,
                },
            ),
            "pivot='all' needs the same pivot sentences in all languages, in one order, but some"
            " languages have pivot sentences of their own; use a corpus with a shared pivot, or"
            " leave pivot out",
        ),
        (
            ParallelCorpus(
                "eng_Latn",
                {
                    "deu_Latn": parallel(12).pairs["deu_Latn"],
                    "fra_Latn": parallel(12).pairs["fra_Latn"][::-1],
                },
            ),
            "pivot='all' needs the same pivot sentences in all languages, in one order, but some"
            " languages have pivot sentences of their own; use a corpus with a shared pivot, or"
            " leave pivot out",
        ),
    ],
    ids=["one language", "pivots of their own", "another order"],
)
def test_a_corpus_that_cannot_be_compared_is_one_sentence(corpus, message, tokenizer):
    probe = Probe(config_of(corpus), tokenizer)
    with pytest.raises(ConfigError) as error:
        probe.run(llama(), pivot="all")
    assert str(error.value) == message
    assert probe.run(llama()).language_pairs == {}


def test_an_unknown_pivot_is_one_sentence(corpus, tokenizer):
    with pytest.raises(ConfigError) as error:
        Probe(config_of(corpus), tokenizer).run(llama(), pivot="deu_Latn")
    assert str(error.value) == (
        "pivot must be 'all', for the scores of all pairs of languages, or left out, for those with"
        " the pivot of the corpus, got 'deu_Latn'"
    )


def test_a_layer_that_does_not_fit_is_refused_with_the_options_that_help(corpus, tokenizer):
    probe = Probe(config_of(corpus, language_pairs_gib=8000 / 2**30), tokenizer)
    with pytest.raises(ConfigError) as error:
        probe.run(llama(), pivot="all")
    assert str(error.value) == (
        "the vectors of 2 languages in one layer must fit into 7.81 KiB (language_pairs_gib), they"
        " need 8.25 KiB; name fewer languages, lower n_pairs, or raise language_pairs_gib"
    )


def test_layers_of_different_width_are_cut_where_the_budget_ends():
    widths = {"nasca": [10, 30, 10], "mexa": [20, 20]}
    plan = plan_blocks(2, 5, widths, most_bytes=40 * 40)
    assert plan.blocks == (
        (("nasca", 0), ("nasca", 1)),
        (("nasca", 2), ("mexa", 0)),
        (("mexa", 1),),
    )
    assert plan.nbytes == 40 * 40
    assert plan.products == 25 * 90
