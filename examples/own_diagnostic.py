"""A diagnostic of one's own: the share of translations that are the nearest of no pivot sentence.

python examples/own_diagnostic.py          # importing it registers the diagnostic
"""

from torch import Tensor

from neuronxa_callback.extend import Compared, register_diagnostic


def never_nearest(compared: Compared) -> Tensor:
    """Per layer: in a space with hubs, a few translations are the nearest of most sentences."""
    layers, pairs, _ = compared.similarity.shape
    nearest = compared.similarity.argmax(dim=2)  # [layers, pivot sentences]
    chosen = compared.similarity.new_zeros(layers, pairs).scatter_(1, nearest, 1.0)
    return 1 - chosen.mean(dim=1)


register_diagnostic("never_nearest", never_nearest)


if __name__ == "__main__":
    from own_measures import probe_a_small_model

    report = probe_a_small_model(diagnostics=("margins", "never_nearest"))
    print(report.diagnostics["never_nearest"]["nasca"])
