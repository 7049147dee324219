"""Hostile little models: each is read right (by a formula by hand), or refused by name."""

import pytest
import torch

from neuronxa_callback import Probe
from neuronxa_callback.errors import TapError
from tests.helpers.attacks import gates, siblings, tokens
from tests.helpers.attacks.models import VOCABULARY, expected_states
from tests.helpers.attacks.scores import difference
from tests.helpers.ffn.formulas import close
from tests.helpers.ffn.reading import BATCH, TOKENS, read
from tests.helpers.probes import config_of
from tests.helpers.tiny import parallel

TOKEN_IDS = torch.randint(
    0, VOCABULARY, (BATCH, TOKENS), generator=torch.Generator().manual_seed(3)
)
CASES = {**gates.CASES, **tokens.CASES}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_model_is_read_right_or_refused_by_name(name):
    build, refusal = CASES[name]
    model = build()
    if refusal:
        with pytest.raises(TapError, match=refusal):
            read(model, lambda ids: model(input_ids=ids), tokens=TOKEN_IDS)
        return
    plan, states = read(model, lambda ids: model(input_ids=ids), tokens=TOKEN_IDS)
    wanted = [pair for layer in expected_states(model, TOKEN_IDS) for pair in layer]
    assert len(states) == len(wanted), [part.path for part in plan.parts]
    for part, (gate, product) in zip(states, wanted, strict=True):
        assert close(part["gate"], gate.flatten(0, 1))
        assert close(part["product"], product.flatten(0, 1))


@pytest.mark.parametrize("name", siblings.CASES)
def test_a_probe_of_a_hostile_model_is_right_or_refused_by_name(name, tokenizer):
    build, refusal = siblings.CASES[name]
    model, probe = (
        build(),
        Probe(config_of(parallel(12, ("deu_Latn",)), batch_tokens=64), tokenizer),
    )
    if refusal:
        with pytest.raises(TapError, match=refusal):
            probe.run(model)
        return
    assert difference(probe.run(model), model, probe) == ""
