"""The order of languages in which similar ones are neighbours."""

import math

import numpy as np

from neuronxa_callback.language_pairs import LanguagePairs


def cluster_order(table: LanguagePairs) -> list[int]:
    """Indices of ``table.languages``, ordered by clustering.

    Average linkage of the distances 1 - score (mean over layers), and the order of the leaves in
    which neighbours are as near as can be (Bar-Joseph, Gifford and Jaakkola, 2001,
    Bioinformatics 17). Of this order and its reverse, the one that begins with the earlier
    language. NaN counts as a score of 0.

    Example:
        >>> near, far = 0.9, 0.1  # (a, c) and (b, d) are alike
        >>> counts = tuple(round(10 * s) for s in (far, near, far, far, near, far))
        >>> cluster_order(LanguagePairs(tuple("abcd"), 10, (0,), (counts,), ((0.0, 1.0),) * 6))
        [0, 2, 3, 1]
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    distances = [
        [0.0 if i == j else 1.0 if math.isnan(score) else 1 - score for j, score in enumerate(row)]
        for i, row in enumerate(table.matrix())
    ]
    condensed = squareform(np.array(distances))
    order = leaves_list(linkage(condensed, "average", optimal_ordering=True)).tolist()
    return [int(k) for k in (order if order[0] < order[-1] else reversed(order))]
