"""Topic transfer: a linear classifier of topics, trained on English, tested in other languages.

A sentence's features are the mean hidden states of its tokens (without special ones) at one layer,
standardised by the training lines. The classifier is a logistic regression with a quadratic
penalty, which cross-validation over the English training lines chooses. Its accuracy is kept at
every layer; ``correlate`` gets the mean over ``LAYERS``, fixed before any score was seen.
"""

from pathlib import Path

import flores
import models
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

LAYERS = range(5, 15)
"""The hidden states that are averaged: 5 to 14; 0 are the embeddings."""
PENALTIES = (0.01, 0.1, 1.0)
"""Per training line; for standardised features."""
FOLDS = 5
BATCH_TOKENS = 2048
PARTS = 2
"""Of the test lines."""


@torch.no_grad()
def pooled_states(model, tokenizer, lines):
    """Mean hidden states [lines, layers + 1, width] of some lines."""
    ids = [tokenizer(line)["input_ids"] for line in lines]
    special = set(tokenizer.all_special_ids)
    order = sorted(range(len(ids)), key=lambda k: len(ids[k]))
    pooled = [None] * len(ids)
    while order:
        width = len(ids[order[-1]])
        rows = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // width)))]
        padded = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(padded)
        for row, k in enumerate(rows):
            padded[row, : len(ids[k])] = torch.tensor(ids[k])
            mask[row, : len(ids[k])] = 1
        states = model(
            input_ids=padded,
            attention_mask=mask,
            use_cache=False,
            logits_to_keep=1,
            output_hidden_states=True,
        ).hidden_states
        own = mask.bool() & ~torch.isin(padded, torch.tensor([*special]))
        weights = own.float() / own.sum(1, keepdim=True)
        means = torch.stack([torch.einsum("bt,btd->bd", weights, s.float()) for s in states], 1)
        for row, k in enumerate(rows):
            pooled[k] = means[row].numpy()
    return np.stack(pooled)


def fit(x, y, classes, penalty):
    """Weights [width + 1, classes] of a logistic regression with a quadratic penalty.

    x: Features [lines, width]. y: Index of the class of each line.
    """
    design = np.hstack([x, np.ones((len(x), 1))])
    target = np.eye(classes)[y]

    def loss(flat):
        weights = flat.reshape(-1, classes)
        scores = design @ weights
        value = -(target * log_softmax(scores, axis=1)).sum() / len(x)
        gradient = design.T @ (softmax(scores, axis=1) - target) / len(x)
        gradient[:-1] += penalty * weights[:-1]
        return value + penalty / 2 * (weights[:-1] ** 2).sum(), gradient.ravel()

    start = np.zeros(design.shape[1] * classes)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return found.x.reshape(-1, classes)


def right(weights, x, y):
    """Which lines get their class."""
    return (np.hstack([x, np.ones((len(x), 1))]) @ weights).argmax(axis=1) == y


def best_penalty(x, y, classes, penalties):
    """The penalty with the highest accuracy in cross-validation; the larger one of equals."""
    if len(penalties) == 1:
        return penalties[0]
    fold = np.arange(len(x)) % FOLDS
    shares = {
        penalty: np.mean(
            np.concatenate(
                [
                    right(
                        fit(x[fold != k], y[fold != k], classes, penalty),
                        x[fold == k],
                        y[fold == k],
                    )
                    for k in range(FOLDS)
                ]
            )
        )
        for penalty in penalties
    }
    return max(reversed(penalties), key=lambda penalty: shares[penalty])


def transfer(train, train_topics, tests, topics, penalties=PENALTIES):
    """language -> accuracy at every layer.

    train: States [lines, layers, width] of English. tests: language -> states of the test lines.
    """
    names = sorted(set(train_topics))
    y, expected = ([names.index(name) for name in side] for side in (train_topics, topics))
    y, expected = np.array(y), np.array(expected)
    found = {language: [] for language in tests}
    for layer in range(train.shape[1]):
        mean, scale = train[:, layer].mean(0), train[:, layer].std(0) + 1e-6
        x = ((train[:, layer] - mean) / scale).astype(np.float64)
        weights = fit(x, y, len(names), best_penalty(x, y, len(names), penalties))
        for language, states in tests.items():
            share = right(weights, (states[:, layer] - mean) / scale, expected).mean()
            found[language].append(round(float(share), 4))
    return found


def states_of(folder, data, cache, dtype, parts):
    """Computes the states of all languages, each kept in a file of its own outside the project.

    The test lines run in two parts (every other line), so that a stopped run is still balanced.
    """
    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    _, train, test = flores.split(data)
    wanted = {("train", 0): (flores.PIVOT, train)}
    for part in range(parts):
        for name in (flores.PIVOT, *flores.languages_of(data)):
            wanted[name, part] = (name, test[part::PARTS])
    missing = [key for key in wanted if not (cache / f"{key[0]}{key[1]}.npy").exists()]
    if missing:
        model, tokenizer = models.load(folder, dtype)
    for key in missing:
        language, rows = wanted[key]
        lines = flores.lines_of(data, language)
        pooled = pooled_states(model, tokenizer, [lines[k] for k in rows])
        np.save(cache / f"{key[0]}{key[1]}.npy", pooled.astype(np.float32))
        print("states of", *key, flush=True)
    found = {}
    for name, part in wanted:
        found.setdefault(name, []).append(np.load(cache / f"{name}{part}.npy"))
    return {name: np.concatenate(each) for name, each in found.items()}


def run(folder, data, cache, out, dtype, parts=PARTS):
    states = states_of(folder, data, cache, dtype, parts)
    _, train, test = flores.split(data)
    test = [k for part in range(parts) for k in test[part::PARTS]]
    topics = flores.topics_of(data)
    own = states.pop("train")
    found = transfer(own, [topics[k] for k in train], states, [topics[k] for k in test])
    Path(out).unlink(missing_ok=True)
    for language, accuracy in found.items():
        models.keep(out, {"language": language, "lines": len(test), "accuracy": accuracy})
