"""Training in float8 (torchao): states as the model computes them, and undisturbed training."""

import json

import pytest

from tests.helpers.launch import TORCHAO_ON_PATH, WORKERS, launch, needs_torchao
from tests.helpers.own_models import verdicts_of_nanogpt

pytestmark = pytest.mark.distributed


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of two ranks saw."""
    folder = tmp_path_factory.mktemp("float8")
    names = ("oracle", "training", "shards")
    options = {"ranks": 2, "folder": folder, "seconds": 500, "more": TORCHAO_ON_PATH}
    done = launch(WORKERS / "float8.py", folder, *names, **options)
    assert done.code == 0, done.output[-4000:]
    return [json.loads((folder / f"{rank}-2.json").read_text()) for rank in range(2)]


@needs_torchao
def test_verdicts_are_those_of_sentences_that_run_alone(ranks):
    exact = verdicts_of_nanogpt()
    for rank in ranks:
        assert list(rank["oracle"]) == ["tensorwise", "rowwise", "rowwise_with_gw_hp"]
        for name, (found, alone, batching, layers) in rank["oracle"].items():
            assert layers == 12
            assert found == alone
            # One scale for all tokens of a forward: a sentence must not depend on its neighbours.
            together = "together" if name != "tensorwise" else "one sentence at a time"
            assert batching == together
        assert any(found != exact for found, *_ in rank["oracle"].values())


@needs_torchao
def test_training_ends_in_the_same_bits_with_and_without(ranks):
    for rank in ranks:
        probed, calm = rank["training"]
        assert probed["layers"] == calm["layers"] > 0
        assert probed["steps"] == [0, 2, 4, 6]
        assert probed["end"] == calm["end"]


@needs_torchao
@pytest.mark.parametrize("recipe", ["tensorwise", "rowwise"])
def test_shards_that_are_gathered_in_float8_give_the_report_of_the_whole_model(recipe, ranks):
    for rank in ranks:
        whole, cut = rank["shards"][recipe]
        assert cut == whole
