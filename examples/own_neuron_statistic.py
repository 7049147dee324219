"""A neuron statistic of one's own: the share of neurons that never fire in a language.

python examples/own_neuron_statistic.py    # importing it registers the statistic
"""

from collections.abc import Sequence

from neuronxa_callback.extend import FiringCounts, register_neuron_statistic


def never_fires(
    layers: Sequence[FiringCounts | None], languages: Sequence[str]
) -> dict[str, list[float | None]]:
    """Language -> share of the neurons of each layer with a firing rate of 0; None for NaN."""
    shares = [None if each is None else (each.rates() == 0).double().mean(dim=1) for each in layers]
    return {
        language: [None if share is None else float(share[k]) for share in shares]
        for k, language in enumerate(languages)
    }


register_neuron_statistic("never_fires", never_fires)


if __name__ == "__main__":
    from own_measures import probe_a_small_model

    report = probe_a_small_model(neurons=("never_fires",))
    print(report.diagnostics["never_fires"])
