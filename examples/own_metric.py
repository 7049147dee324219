"""A metric of one's own: the neurons that fire anywhere in a sentence, by Jaccard's coefficient.

python examples/own_metric.py              # importing it registers the metric
"""

import torch
from torch import Tensor

from neuronxa_callback.extend import Metric, register_metric


def jaccard(shared: Tensor, pivot: Tensor, target: Tensor) -> Tensor:
    """|A and B| / |A or B|, from vectors of 0 and 1; 0 for two empty sets."""
    either = pivot[..., :, None] + target[..., None, :] - shared
    return torch.where(either > 0, shared / either, 0.0)


FIRES_ANYWHERE = Metric(
    site="gate",
    value=lambda states: (states > 0).float(),
    weights=lambda mask, special: mask.float(),
    vector=lambda firings: (firings > 0).float(),
    similarity=jaccard,
)
register_metric("fires_anywhere", FIRES_ANYWHERE)


if __name__ == "__main__":
    from own_measures import probe_a_small_model

    report = probe_a_small_model(metrics=("nasca", "fires_anywhere"))
    print(report.score("fires_anywhere"), report.interval("fires_anywhere"))
