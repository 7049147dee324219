"""Some of the languages and pairs of a corpus: what can be asked for."""

import numpy
import pytest

from neuronxa_callback import ParallelCorpus
from neuronxa_callback.errors import ConfigError

CORPUS = ParallelCorpus.builtin(languages=["de", "tr"])


@pytest.mark.parametrize("n", [-5, -1, 0, 2.5, 20.0, "20", True, [20]])
def test_a_number_of_pairs_that_is_none_is_refused(n):
    with pytest.raises(ConfigError) as error:
        CORPUS.select(n_pairs=n)
    assert str(error.value) == f"n_pairs must be an integer of at least 1, got {n!r}"
    with pytest.raises(ConfigError):
        CORPUS.select(["de"], n)


@pytest.mark.parametrize("n", [2, 99, 100, numpy.int64(20), numpy.uint8(20)])
def test_an_integer_of_any_kind_is_a_number_of_pairs(n):
    assert CORPUS.select(n_pairs=n).n_pairs == n
    assert CORPUS.select(n_pairs=n) == CORPUS.select(n_pairs=int(n))
