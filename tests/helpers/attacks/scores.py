"""Scores of a hostile model by hand, one sentence at a time, and how a report differs from them."""

import torch
from torch import Tensor

from tests.helpers.attacks.models import Decoder, expected_states

STATES = {"nasca": (0, lambda state: (state > 0).double()), "navca": (1, Tensor.abs)}
"""Metric -> index in (gate, product), value of a state."""
NEAR = {torch.float32: 2e-5, torch.bfloat16: 5e-3}
"""Dtype -> cosines that rounding may put in another order."""


def difference(report, model: Decoder, probe) -> str:
    """The first difference of a report from the scores by hand, as text; empty if none."""
    _, (group,) = probe.tokenize(model)
    sides = (group.pivot, *group.targets)
    vectors = {m: [_vectors(model, side.sentences, m) for side in sides] for m in STATES}
    near = NEAR[next(model.parameters()).dtype]
    for metric, (pivots, *targets) in vectors.items():
        for side, rows, vector in zip(group.targets, group.rows, targets, strict=True):
            curve = report.curve(metric, side.language)
            cosines = report.diagnostics["margins"][metric][side.language]["non_pairs"]
            if len(curve) != len(vector):
                return f"{metric} has {len(curve)} layers instead of {len(vector)}"
            layers = zip(pivots, vector, curve, cosines, strict=True)
            for number, (one, other, score, cosine) in enumerate(layers):
                problem = _compare(one[list(rows)], other, score, cosine, near)
                if problem:
                    return f"{metric} {side.language} layer {number}: {problem}"
    return ""


def _compare(pivot: Tensor, target: Tensor, score: float, cosine: float, near: float) -> str:
    if pivot.shape != target.shape:
        return f"widths {pivot.shape} and {target.shape}"
    cosines = torch.nn.functional.normalize(pivot) @ torch.nn.functional.normalize(target).T
    own = torch.eye(len(cosines), dtype=torch.bool)
    rivals = cosines.masked_fill(own, -9)
    margin = cosines.diagonal() - torch.maximum(rivals.amax(0), rivals.amax(1))
    low, high = ((margin > bound).double().mean().item() for bound in (near, -near))
    if not low - 1e-9 <= score <= high + 1e-9:
        return f"{score:.3f} instead of {low:.3f}"
    others = cosines[~own].mean().item()
    if abs(others - cosine) > 100 * near * max(abs(others), 0.05):
        return f"mean cosine {cosine:.4f} instead of {others:.4f}"
    return ""


def _vectors(model: Decoder, sentences, metric: str) -> list[Tensor]:
    """Per layer [sentences, neurons]: states summed with the weights 1, 2, ... of the tokens."""
    site, value = STATES[metric]
    rows: list[list[Tensor]] = []
    for sentence in sentences:
        layers = expected_states(model, torch.tensor([sentence.ids]))
        weights = torch.arange(1, len(sentence.ids) + 1, dtype=torch.double)
        pooled = [[weights @ value(pair[site][0].double()) for pair in layer] for layer in layers]
        rows.append([torch.cat(layer) for layer in pooled])
    return [torch.stack(each) for each in zip(*rows, strict=True)]
