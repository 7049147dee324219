"""A registry that forgets, the examples in it, and a tokenizer."""

import pytest

from tests.helpers.extend import measures as own
from tests.helpers.tiny import tokenizer_of


@pytest.fixture
def registry():
    with own.registry() as found:
        yield found


@pytest.fixture
def examples(registry):
    own.register_examples()
    return registry


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for pairs in own.CORPUS.pairs.values() for pair in pairs for text in pair]
    return tokenizer_of(texts)
