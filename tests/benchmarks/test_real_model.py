"""The parts of ``benchmarks/real_model`` on tiny models; the kept numbers and the page."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.helpers.tiny import NOUNS, llama, sentences, tokenizer_of, translated

ROOT = Path(__file__).parents[2]
QUESTIONS = [
    ("The <mask> opens the garden.", ["river"], ["river", "bread", "old stone"]),
    ("A <mask> hides.", ["music"], ["tree", "music"]),
    ("The <mask> opens music and finds the winter letter.", ["shoe"], ["shoe", "stone", "winter"]),
    ("Doctor <mask>.", ["kitchen"], ["kitchen", "letter tree", "bread"]),
    *(
        (f"{noun.capitalize()} <mask> opens.", ["stone"], ["stone", "letter tree", "river music"])
        for noun in NOUNS
    ),
]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [q[0].replace("<mask>", c) for q in QUESTIONS for c in q[2]]
    return tokenizer_of([*texts, *sentences(40)])


@pytest.fixture(scope="module")
def model():
    found = llama()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return found


def nats_by_definition(model, tokenizer, text, start, end):
    """(nats of each token but the first, whether it is the answer's), the sentence alone."""
    encoded = tokenizer(text, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0].double().numpy()
    nats = []
    for t in range(1, len(ids)):
        total = math.log(sum(math.exp(score) for score in logits[t - 1]))
        nats.append(total - logits[t - 1][ids[t]])
    spans = encoded["offset_mapping"][1:]
    return nats, [a < end and b > start for a, b in spans]


def best_by_definition(model, tokenizer, question, rule):
    prompt, gold, candidates = question
    values = []
    for candidate in candidates:
        start = prompt.index("<mask>")
        text = prompt.replace("<mask>", candidate)
        nats, own = nats_by_definition(model, tokenizer, text, start, start + len(candidate))
        answer = [value for value, flag in zip(nats, own, strict=True) if flag]
        values.append(
            {
                "sentence": sum(nats) / len(nats),
                "answer_mean": sum(answer) / len(answer),
                "answer_sum": sum(answer),
            }[rule]
        )
    first = sorted(range(len(values)), key=values.__getitem__)[: len(gold)]
    return sum(candidates[k] in gold for k in first) / len(gold)


@pytest.mark.parametrize("budget", [1536, 20], ids=["together", "apart"])
def test_candidates_of_bmlama_are_ranked_as_if_each_sentence_ran_alone(
    real, model, tokenizer, monkeypatch, budget
):
    bmlama = real["bmlama"]
    monkeypatch.setattr(bmlama, "BATCH_TOKENS", budget)
    encoded = [[bmlama.tokens_of(tokenizer, q[0], c)[0] for c in q[2]] for q in QUESTIONS]
    starts = [tuple(ids[0][: bmlama.common_start(ids)]) for ids in encoded]
    lengths = [len(start) for start in dict.fromkeys(starts)]
    assert max(map(lengths.count, lengths)) > 2  # different beginnings of one length run together
    found = bmlama.score_questions(model, tokenizer, QUESTIONS)
    for rule, shares in found.items():
        expected = [best_by_definition(model, tokenizer, each, rule) for each in QUESTIONS]
        assert shares == expected
    assert len({tuple(shares) for shares in found.values()}) > 1


def test_nats_of_shared_beginnings_are_those_of_each_sentence_alone(real, model, tokenizer):
    bmlama = real["bmlama"]
    encoded = [[bmlama.tokens_of(tokenizer, q[0], c) for c in q[2]] for q in QUESTIONS]
    start = bmlama.common_start([ids for ids, _ in encoded[0]])
    assert start > 0
    with torch.no_grad():
        (sums,) = bmlama._question_sums(model, [0], encoded, start)
    for (whole, own), candidate in zip(sums, QUESTIONS[0][2], strict=True):
        text, at = QUESTIONS[0][0].replace("<mask>", candidate), QUESTIONS[0][0].index("<mask>")
        nats, flags = nats_by_definition(model, tokenizer, text, at, at + len(candidate))
        assert whole == pytest.approx(sum(nats), rel=1e-4)
        answer = sum(n for n, flag in zip(nats, flags, strict=True) if flag)
        assert own == pytest.approx(answer, rel=1e-4)


def test_pooled_states_are_means_over_the_tokens_of_a_sentence(real, model, tokenizer, monkeypatch):
    monkeypatch.setattr(real["topics"], "BATCH_TOKENS", 40)
    lines = sentences(9)
    found = real["topics"].pooled_states(model, tokenizer, lines)
    for line, pooled in zip(lines, found, strict=True):
        ids = torch.tensor([tokenizer(line)["input_ids"]])
        with torch.no_grad():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        for state, own in zip(states, pooled, strict=True):
            np.testing.assert_allclose(own, state[0].mean(0).numpy(), rtol=1e-4, atol=1e-5)


def test_topics_that_states_show_are_found_in_another_language_and_others_are_not(real):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 160)
    states = draw.normal(size=(160, 2, 6))
    states[:, 1, 0] += 4 * labels
    topics = [f"topic {k}" for k in labels]
    found = real["topics"].transfer(
        states[:100], topics[:100], {"deu_Latn": states[100:]}, topics[100:]
    )
    none, all_of_it = found["deu_Latn"]
    assert none < 0.55
    assert all_of_it > 0.9


def flores_folder(folder, languages=("deu_Latn", "fra_Latn")):
    lines = sentences(260)
    (folder / "flores_half").mkdir()
    for code in languages:
        text = "\n".join(translated(line, code) for line in lines)
        (folder / "flores_half" / f"{code}.txt").write_text(text + "\n")
    (folder / "flores_half" / "eng_Latn.txt").write_text("\n".join(lines) + "\n")
    return lines


def test_the_classifier_of_topics_sees_no_line_of_the_probe(real, tmp_path):
    lines = flores_folder(tmp_path)
    probe, train, test = real["flores"].split(tmp_path)
    assert sorted(probe + train + test) == list(range(len(lines)))
    assert len(probe) == 100
    assert len(train) == 120


@pytest.mark.slow
def test_the_tables_of_the_page_are_those_of_the_kept_results(real):
    page, faq, trust, readme = (
        (ROOT / name).read_text(encoding="utf-8")
        for name in ("docs/evidence.md", "docs/faq.md", "docs/trust.md", "README.md")
    )
    tables = real["tables"].all_tables()
    for lines in tables.values():
        assert len(lines) > 1
        assert [line for line in lines if line not in page.splitlines()] == []
    assert [line for line in tables["Levels"] if line not in faq.splitlines()] == []
    (topics,) = (x for x in tables["Correlations"] if x.startswith("| topic_transfer | nasca | "))
    r, given_all = topics.split(" | ")[3][:3], topics.split(" | ")[7][:3]
    assert f"topic transfer at r = {r}," in " ".join(readme.split())
    assert f"transfer falls from {r} to {given_all}," in " ".join(trust.split())


def test_the_kept_scores_are_the_table_that_correlate_reads(real, tmp_path):
    real["kept"].write_scores(tmp_path / "scores.csv")
    kept = (real["kept"].FOLDER / "gemma_scores.csv").read_text(encoding="utf-8")
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == kept
