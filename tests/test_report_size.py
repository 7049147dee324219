"""The size of a report as a line of JSON, with numbers as long as a probe's."""

import random

import pytest

from neuronxa_callback import AlignmentReport
from neuronxa_callback.scores import Hub, MetricScores
from tests.helpers.output.language_pairs import with_pairs


def large_report(languages, layers, n, metrics):
    """A report full of random numbers: every layer has a hub, every count two digits or more."""
    draw = random.Random(0)
    names = [f"l{k:03d}_Latn" for k in range(languages)]

    def per_layer(make):
        return {name: tuple(make() for _ in range(layers)) for name in names}

    def per_pair(least, most):
        return {name: tuple(draw.randint(least, most) for _ in range(n)) for name in names}

    def ends():
        return round(draw.random(), 4), round(draw.random(), 4)

    def count():
        return draw.randint(10, n)

    scores = MetricScores(
        layers=tuple(range(layers)),
        hits=per_layer(lambda: draw.getrandbits(n)),
        pivot_to_target=per_layer(count),
        target_to_pivot=per_layer(count),
        mutual=per_layer(count),
        intervals={name: (draw.random(), draw.random()) for name in [*names, "mean"]},
        layer_intervals=per_layer(ends),
        sole_blocks=per_pair(10, layers * 20),
        second_differences=per_pair(-layers * 20, layers * 20),
        blockers=per_pair(10, layers * 20),
        hubs=per_layer(lambda: Hub("target", count(), count(), count())),
        hub_limited=tuple(names),
    )
    return AlignmentReport(
        step=10**6,
        pivot="eng_Latn",
        languages=tuple(names),
        n_pairs=n,
        metrics=dict.fromkeys(metrics, scores),
        fingerprint={},
    )


@pytest.mark.parametrize(
    ("languages", "layers", "limit"), [(25, 32, 400_000), (200, 100, 4_000_000)]
)
def test_a_line_of_two_metrics_is_small(languages, layers, limit):
    report = large_report(languages, layers, 100, ("nasca", "navca"))
    assert len(report.to_json().encode()) < limit


def test_all_pairs_of_languages_take_a_tenth_of_a_megabyte():
    report = large_report(24, 32, 100, ("nasca", "navca"))
    whole = with_pairs(report, ("nasca", "navca"))
    added = len(whole.to_json()) - len(report.to_json())
    assert 50_000 < added < 100_000
    assert len(whole.to_json().encode()) < 1_000_000
