"""Hooks change nothing, and leave nothing behind."""

import contextlib
import gc
import weakref

import pytest
import torch

from neuronxa_callback.taps import discover
from neuronxa_callback.taps.graph import Call, Node
from neuronxa_callback.taps.reader import SITES
from tests.helpers.families import ids, run, tiny
from tests.helpers.ffn.reading import BATCH, TOKENS, Collect


class TestNoTrace:
    def test_hooks_are_removed_after_an_error(self):
        model = tiny("mixtral")
        plan = discover(model, lambda: run(model, ids(1, 4)))
        attached = plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS))
        with contextlib.suppress(KeyError), attached:
            assert _hooks(model) > 0
            raise KeyError
        assert _hooks(model) == 0

    def test_discovery_leaves_no_hook_if_the_forward_fails(self):
        model = tiny("llama")
        with pytest.raises(ZeroDivisionError):
            discover(model, lambda: 1 / 0)
        assert _hooks(model) == 0

    @pytest.mark.parametrize("family", ["llama", "lfm2", "gpt_oss", "switch_transformers", "bart"])
    def test_a_plan_keeps_nothing_of_the_trace(self, family):
        model = tiny(family)
        plan = discover(model, lambda: run(model, ids(1, 4)))
        gc.collect()
        kept = [item for item in gc.get_objects() if type(item) in (Node, Call)]
        assert plan.parts
        assert kept == []

    def test_the_output_is_unchanged(self):
        model, tokens = tiny("qwen2_moe"), ids(BATCH, TOKENS)
        before = run(model, tokens).logits
        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Collect(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            during = run(model, tokens).logits
            reader.end()
        assert reader.error is None
        assert torch.equal(before, during)
        assert torch.equal(before, run(model, tokens).logits)

    @pytest.mark.parametrize("family", ["llama", "lfm2", "mixtral", "switch_transformers"])
    def test_no_state_is_kept_after_reading(self, family):
        model = tiny(family)
        alive = []

        class Watch(Collect):
            def dense(self, part, site, states, start):
                alive.append(weakref.ref(states))

            def routed(self, part, site, states, token, expert, last):
                alive.append(weakref.ref(states))

        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Watch(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            run(model, ids(BATCH, TOKENS))
            reader.end()
            gc.collect()
            assert alive
            assert [reference for reference in alive if reference() is not None] == []

    def test_an_error_in_the_sink_is_kept_and_the_forward_continues(self):
        model, tokens = tiny("llama"), ids(BATCH, TOKENS)

        class Broken(Collect):
            def dense(self, part, site, states, start):
                raise ValueError("full")

        plan = discover(model, lambda: run(model, ids(1, 4)))
        with plan.attach(model, SITES, Broken(plan), lambda: (BATCH, TOKENS)) as reader:
            reader.begin()
            out = run(model, tokens).logits
            reader.end()
            assert str(reader.error) == "full"
            reader.begin()
            assert reader.error is None
        assert torch.equal(out, run(model, tokens).logits)


def _hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
