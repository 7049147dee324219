"""DeepSpeed's ZeRO, a real engine on CPU: the report of whole weights, and the same training."""

import json

import pytest

from tests.helpers.launch import DEEPSPEED_ON_CPU, WORKERS, launch, needs_deepspeed

pytestmark = pytest.mark.distributed


@needs_deepspeed
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_zero_gives_the_same_report_and_training_goes_on_as_without(stage, tmp_path):
    script = WORKERS / "zero.py"
    done = launch(
        script, stage, tmp_path, ranks=2, folder=tmp_path, seconds=500, more=DEEPSPEED_ON_CPU
    )
    assert done.code == 0, done.output[-4000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    for found in (first, second):
        probed, calm = found["with"], found["without"]
        assert probed["sharded"] == (stage == 3)
        assert probed["reports"][0] == found["before"]
        assert len(dict.fromkeys(probed["reports"])) == 3
        assert probed["losses"] == calm["losses"]
        assert probed["weights"] == calm["weights"]
    assert first["with"]["reports"] == second["with"]["reports"]
