"""After all microbatches: what has failed is named, the same on every rank, and the rest stands."""

from collections.abc import Mapping
from typing import Any

from neuronxa_callback import extend
from neuronxa_callback.config import ProbeConfig
from neuronxa_callback.metrics import scoring
from neuronxa_callback.metrics.own import Faults, owner_of
from neuronxa_callback.probe.distributed import World
from neuronxa_callback.probe.own.agreement import agree
from neuronxa_callback.probe.results import ResultCollector


def settle(
    world: World,
    config: ProbeConfig,
    results: ResultCollector,
    statistics: Mapping[str, Any],
    faults: Faults,
) -> dict[str, Any]:
    """Collective: makes what has failed on any rank NaN, or None, on all of them.

    Args:
        world: The ranks.
        config: The options.
        results: The results of all languages; the scores of a metric that has failed become NaN.
        statistics: Name -> the entry of a neuron statistic of one's own.
        faults: The faults of this rank; those of others are added.

    Returns:
        Name -> the entry of a diagnostic or neuron statistic of one's own.
    """
    metrics = {
        name: owner_of("metric", name) for name in extend.own_names("metric", config.metrics)
    }
    found: dict[str, object] = {
        owner: [scoring.pack_hits(each.hits, each.nan) for each in results.scores[name].values()]
        for name, owner in metrics.items()
    }
    diagnosed = {} if results.own is None else results.own.found
    for name, by_metric in diagnosed.items():
        found |= {owner_of("diagnostic", name, metric): by_metric[metric] for metric in by_metric}
    found |= {owner_of("neuron statistic", name): entry for name, entry in statistics.items()}
    agree(world, faults, found)
    failed = {*faults.messages}
    void = [name for name, owner in metrics.items() if owner in failed]
    own: dict[str, Any] = {
        name: {
            metric: None
            if metric in void or owner_of("diagnostic", name, metric) in failed
            else each
            for metric, each in by_metric.items()
        }
        for name, by_metric in diagnosed.items()
    }
    for name in void:
        results.void(name)
    return own | {
        name: None if owner_of("neuron statistic", name) in failed else entry
        for name, entry in statistics.items()
    }
