"""BMLAMA-53 (Qi et al., 2023): which of about ten candidates fills a sentence, per language.

Its own rule: the candidates are ranked by the mean cross-entropy of the whole filled sentence, and
a question's score is the share of its gold answers among the first as many. Beside it, the same
by the mean and by the sum of the cross-entropy of the answer's own tokens.

What the candidates of a question have in common from the start is computed once and kept in a
cache; questions with equally long beginnings run together, so that nothing is padded in front.
Logits are computed only for tokens that are scored.
"""

import csv
import gzip
from itertools import groupby, pairwise
from pathlib import Path

import models
import torch
from transformers import DynamicCache

from neuronxa_callback.corpus.languages import resolve

QUESTIONS = 100
STRIDE = 3
"""Every third question of the file; all languages get the same ones."""
OF_FIVE = 3
"""In alphabetical order, the first three of every five languages."""
ROUNDS = 4
"""The questions of all languages run in so many rounds, so that a stopped run is still balanced."""
BATCH_TOKENS = 1536
LOGIT_ROWS = 256
MASK = "<mask>"
RULES = ("sentence", "answer_mean", "answer_sum")


def languages_of(data, known):
    """code of the file -> language of the report, for those that both have."""
    found = {}
    for path in sorted((Path(data) / "bmlama53").glob("*.tsv.gz")):
        code = path.name.split(".")[0]
        try:
            found[code] = resolve(code, known)
        except ValueError:
            continue
    return found


def chosen(found):
    """The codes that run: the first three of every five languages in alphabetical order."""
    ordered = sorted(found, key=found.get)
    return [code for k, code in enumerate(ordered) if k % 5 < OF_FIVE]


def questions_of(data, code):
    """(sentence with a mask, gold answers, candidates) of the questions that run."""
    path = Path(data) / "bmlama53" / f"{code}.tsv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))[1:]
    return [(row[0], row[1].split(", "), row[2].split(", ")) for row in rows[::STRIDE][:QUESTIONS]]


def tokens_of(tokenizer, prompt, candidate):
    """Token ids of the filled sentence, and which of them hold a part of the candidate."""
    start = prompt.index(MASK)
    end = start + len(candidate)
    text = prompt.replace(MASK, candidate)
    encoded = tokenizer(text, return_offsets_mapping=True)
    own = [a < end and b > start and b > a for a, b in encoded["offset_mapping"]]
    return encoded["input_ids"], own


def common_start(sequences):
    """How many first tokens all sequences share; each keeps at least one of its own."""
    most = min(map(len, sequences)) - 1
    same = [len({sequence[k] for sequence in sequences}) == 1 for k in range(most)]
    return same.index(False) if False in same else most


def log_sums(model, states):
    """log sum exp of the logits [n] of last hidden states [n, width]."""
    head = model.get_output_embeddings().weight
    found = []
    for rows in states.split(LOGIT_ROWS):
        logits = torch.nn.functional.linear(rows, head)
        # In small blocks, so that they stay in the processor's cache.
        found += [_log_sum(block) for block in logits.split(16)]
    return torch.cat(found)


def logits_of(model, states, targets):
    """The logits [n] of the targets [n], in fp32."""
    head = model.get_output_embeddings().weight
    return (states.float() * head[targets].float()).sum(-1)


def _log_sum(logits):
    most = logits.amax(dim=1, keepdim=True)
    return (logits - most).exp_().sum(1, dtype=torch.float32).log() + most[:, 0].float()


@torch.no_grad()
def score_questions(model, tokenizer, questions):
    """Rule -> per question the share of its gold answers among the first as many."""
    encoded = [[tokens_of(tokenizer, q[0], c) for c in q[2]] for q in questions]
    starts = [common_start([ids for ids, _ in each]) for each in encoded]
    order = sorted(range(len(questions)), key=lambda k: (starts[k], len(encoded[k][0][0])))
    shares = {rule: [0.0] * len(questions) for rule in RULES}
    for start, group in groupby(order, key=lambda k: starts[k]):
        for batch in _batches([*group], encoded):
            for k, sums in zip(batch, _question_sums(model, batch, encoded, start), strict=True):
                for rule, share in _shares(sums, questions[k], encoded[k]).items():
                    shares[rule][k] = share
    return shares


def _batches(group, encoded):
    batch, width, rows = [], 0, 0
    for k in group:
        own = max(len(ids) for ids, _ in encoded[k])
        if batch and max(width, own) * (rows + len(encoded[k])) > BATCH_TOKENS:
            yield batch
            batch, width, rows = [], 0, 0
        batch, width, rows = [*batch, k], max(width, own), rows + len(encoded[k])
    yield batch


def _question_sums(model, batch, encoded, start):
    """Per question: (nats of the sentence, nats of the answer) of every candidate."""
    firsts = torch.tensor([encoded[k][0][0][:start] for k in batch])
    cache = DynamicCache(config=model.config)
    before = model.model(input_ids=firsts, past_key_values=cache, use_cache=True).last_hidden_state
    sums = log_sums(model, before.flatten(0, 1)).reshape(len(batch), start)
    shared = sums[:, :-1] - logits_of(model, before[:, :-1], firsts[:, 1:])
    owner = [row for row, k in enumerate(batch) for _ in encoded[k]]
    rests = [(ids[start:], own[start:]) for k in batch for ids, own in encoded[k]]
    width = max(len(ids) for ids, _ in rests)
    padded = torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in rests])
    real = torch.tensor([[k < len(ids) for k in range(width)] for ids, _ in rests])
    answer = torch.tensor([own + [False] * (width - len(own)) for _, own in rests])
    nats = torch.zeros(padded.shape)
    nats[:, 0] = sums[owner, -1] - logits_of(model, before[owner, -1], padded[:, 0])
    if width > 1:
        cache.batch_select_indices(torch.tensor(owner))
        after = model.model(input_ids=padded[:, :-1], past_key_values=cache, use_cache=True)
        states, later = after.last_hidden_state[real[:, 1:]], padded[:, 1:][real[:, 1:]]
        nats[:, 1:][real[:, 1:]] = log_sums(model, states) - logits_of(model, states, later)
    in_start = torch.tensor([[*encoded[k][0][1][1:start]] for k in batch], dtype=torch.float32)
    sentence = shared.sum(1)[owner] + nats.sum(1)
    own = (shared * in_start).sum(1)[owner] + (nats * answer).sum(1)
    both = torch.stack([sentence, own], dim=1).tolist()
    edges = [0]
    for k in batch:
        edges.append(edges[-1] + len(encoded[k]))
    return [both[a:b] for a, b in pairwise(edges)]


def _shares(sums, question, encoded):
    _, gold, candidates = question
    scores = {
        "sentence": [s / (len(ids) - 1) for (s, _), (ids, _) in zip(sums, encoded, strict=True)],
        "answer_mean": [a / sum(own) for (_, a), (_, own) in zip(sums, encoded, strict=True)],
        "answer_sum": [a for _, a in sums],
    }
    found = {}
    for rule, values in scores.items():
        first = sorted(range(len(values)), key=values.__getitem__)[: len(gold)]
        found[rule] = sum(candidates[k] in gold for k in first) / len(gold)
    return found


def run(folder, data, out, dtype, known, rounds=ROUNDS):
    """Runs the languages round by round; what is in the file already is not run again."""
    model, tokenizer = models.load(folder, dtype)
    found = languages_of(data, known)
    kept = {(row["language"], row["round"]) for row in models.kept_rows(out)}
    for number in range(rounds):
        for code in chosen(found):
            if (found[code], number) in kept:
                continue
            questions = questions_of(data, code)[number::ROUNDS]
            shares = score_questions(model, tokenizer, questions)
            row = {"language": found[code], "round": number, "questions": len(questions)}
            models.keep(out, row | {rule: sum(values) for rule, values in shares.items()})
            print(code, number, row, flush=True)
