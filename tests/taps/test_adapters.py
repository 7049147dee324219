"""PEFT adapters: the states are those of the merged model."""

import copy

import pytest
import torch
from torch import nn

from tests.helpers.families import adapted, ids, tiny
from tests.helpers.ffn.formulas import close, same_states
from tests.helpers.ffn.reading import BATCH, TOKENS, read


class TestAdapters:
    @pytest.mark.parametrize("dora", [False, True])
    @pytest.mark.parametrize(
        ("family", "targets"),
        [
            ("llama", ["gate_proj"]),
            ("llama", ["up_proj"]),
            ("llama", ["down_proj", "q_proj"]),
            ("llama", ["gate_proj", "up_proj", "down_proj"]),
            ("lfm2", ["w1", "w2", "w3"]),
            ("phi3", ["gate_up_proj", "down_proj"]),
            ("bert", ["intermediate.dense", "output.dense"]),
        ],
    )
    def test_states_are_those_of_the_merged_model(self, family, targets, dora):
        model = adapted(family, target_modules=targets, use_dora=dora)
        plan, states = read(model, lambda tokens: model(input_ids=tokens))
        merged = copy.deepcopy(model).merge_and_unload()
        plan_merged, expected = read(merged)
        assert same_states(states, expected, 1e-4)
        assert not same_states(states, read(tiny(family))[1], 1e-3)
        assert [part.path for part in plan.parts] == [part.path for part in plan_merged.parts]

    def test_a_soft_prompt_is_left_out_of_the_states(self):
        import peft

        config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
        model = peft.get_peft_model(tiny("llama"), config).eval()
        tokens, inputs = ids(BATCH, TOKENS), []
        hook = model.base_model.model.layers[0].mlp.register_forward_pre_hook
        hook(lambda _, args: inputs.append(args[0]))
        _, states = read(model, lambda ids: model(input_ids=ids), tokens=tokens)
        with torch.no_grad():
            gate = model.base_model.model.layers[0].mlp.gate_proj(inputs[-1])
        assert gate.shape[1] == TOKENS + 3
        assert close(states[0]["gate"], nn.functional.silu(gate)[:, 3:].flatten(0, 1))

    def test_states_are_not_those_of_the_base_layer(self):
        model = adapted("lfm2", target_modules=["w1", "w3"])
        _, states = read(model, lambda tokens: model(input_ids=tokens))
        base = []
        for name, module in model.named_modules():
            if name.endswith("w1.base_layer"):
                module.register_forward_hook(lambda m, a, out: base.append(nn.functional.silu(out)))
        with torch.no_grad():
            model(input_ids=ids(BATCH, TOKENS))
        assert len(base) == 2
        assert not close(states[0]["gate"], base[0].flatten(0, 1), 1e-3)


@pytest.mark.parametrize("family", ["qwen3_moe", "gpt_oss", "mixtral"])
def test_adapters_on_expert_weights_are_in_the_states(family):
    model = adapted(
        family,
        target_modules=["q_proj"],
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
    )
    _, states = read(model, lambda tokens: model(input_ids=tokens))
    merged = copy.deepcopy(model).merge_and_unload()
    assert same_states(states, read(merged)[1], 1e-4)
    assert not same_states(states, read(tiny(family))[1], 1e-3)
