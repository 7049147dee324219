"""The taps package on its own: its example, its imports, and the public parts of a plan."""

import ast
import doctest
import subprocess
import sys

from neuronxa_callback import taps
from neuronxa_callback.taps import FFNPart, Reader, StateSink, TapPlan, discover
from tests.helpers.families import adapted, ids, run, tiny


def test_the_example_of_the_package_runs():
    result = doctest.testmod(taps)
    assert result.attempted > 5
    assert result.failed == 0


def test_it_imports_nothing_of_the_package_but_errors():
    code = "import sys, neuronxa_callback.taps\nprint(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [name for name in ast.literal_eval(done.stdout) if name.startswith("neuronxa_callback.")]
    others = {name.split(".")[1] for name in ours} - {"taps"}
    assert others == {"errors", "_version"}
    assert "transformers" not in ast.literal_eval(done.stdout)


def test_public_names_have_docstrings():
    assert all(item.__doc__ for item in (FFNPart, Reader, StateSink, TapPlan, discover))


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
