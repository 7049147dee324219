"""The module paths of a plan: which modules the taps read, the same for a wrapped model."""

from neuronxa_callback.taps import discover
from tests.helpers.families import adapted, ids, run, tiny


def test_a_plan_names_the_modules_that_it_reads():
    model = tiny("llama")
    plan = discover(model, lambda: run(model, ids(1, 4)))
    mlps = [f"model.layers.{layer}.mlp" for layer in (0, 1)]
    assert plan.module_paths == tuple(
        f"{mlp}.{name}" for mlp in mlps for name in ("down_proj", "act_fn")
    )


def test_module_paths_show_which_modules_the_user_chose():
    model = tiny("llama")
    gates = {"model.layers.0.mlp.down_proj": "model.layers.0.mlp.up_proj"}
    plan = discover(model, lambda: run(model, ids(1, 4)), neuron_modules=lambda _: gates)
    assert plan.module_paths == (
        "model.layers.0.mlp.down_proj",
        "model.layers.0.mlp.up_proj",
    )


def test_module_paths_of_experts():
    model = tiny("switch_transformers")
    plan = discover(model, lambda: run(model, ids(1, 4)))
    sparse = "encoder.block.1.layer.1.mlp"
    assert len(set(plan.module_paths)) == len(plan.module_paths)
    assert [path for path in plan.module_paths if path.startswith(f"{sparse}.experts.expert_0")]


def test_module_paths_do_not_depend_on_wrappers():
    plain, wrapped = tiny("mixtral"), adapted("mixtral", target_modules=["q_proj"])
    plans = [
        discover(model, lambda model=model: model(input_ids=ids(1, 4)))
        for model in (plain, wrapped)
    ]
    assert plans[0].module_paths == plans[1].module_paths
