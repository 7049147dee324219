"""Proof by experiment that gate and product are what a plan says, in the model's own code.

One forward runs ``COPIES`` copies of a sentence, or ``COPIES`` tokens of one. The outputs of the
projections of every feed-forward network are overwritten with values of ours, which differ between
copies, and the output of its down projection with zeros, so that nothing else differs between
copies. What the taps then read must behave like ``product = gate x other factor``. No formula of a
tap is used.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.experts.hooks import ExpertGroupTap, ExpertsTap
from neuronxa_callback.taps.experts.stacked import PROJECTED, apply_gate, weights_of
from neuronxa_callback.taps.hooks import DenseTap, RecomputedTap
from neuronxa_callback.taps.modules import local_shard, modules_by_path, tensors_of
from neuronxa_callback.taps.plan import TapPlan
from neuronxa_callback.taps.proof.experiment import COPIES, TOLERANCE, Experiment
from neuronxa_callback.taps.reader import GATE, PRODUCT, SITES, Reader, Tap


class FactorProof:
    """Runs the experiment in one forward.

    Args:
        plan: The plan to prove.
        sites: The sites that the probe reads. The product is always checked.
    """

    def __init__(self, plan: TapPlan, sites: Sequence[str]) -> None:
        self.plan = plan
        self.sites = SITES if GATE in sites else (PRODUCT,)
        self.problems: dict[str, str] = {}
        """Path of a network -> what contradicts the plan."""
        self.checked: dict[str, None] = {}
        """Paths of the networks that were checked, in order."""
        self.unchecked: dict[str, str] = {}
        """Path of a network -> why it could not be checked."""
        self.error: Exception | None = None
        self._gates: dict[int, Tensor] = {}
        self._by_part: dict[int, tuple[Experiment, str, bool]] = {}

    @contextmanager
    def attach(self, model: nn.Module, tokens: int, sentences: int = COPIES) -> Iterator[Reader]:
        """Hooks that overwrite and read.

        Args:
            model: The model.
            tokens: The length of a sentence; ``COPIES`` if there is only one.
            sentences: ``COPIES``, or 1 for a model that refuses more.
        """
        modules, shape = modules_by_path(model), (sentences, tokens)
        with ExitStack() as stack:
            for tap in self.plan.taps:
                self._prepare(tap, modules, shape, stack)
            reader = stack.enter_context(self.plan.attach(model, self.sites, self, lambda: shape))
            for tap in self.plan.taps:
                for one in _dense_taps(tap):
                    self._hook(modules[one.path], _zero, stack)
            yield reader
            self.error = self.error or reader.error
        for tap in self.plan.taps:
            if tap_path(tap) not in self.checked:
                self.unchecked.setdefault(tap_path(tap), "none of its copies could be compared")

    def raise_first(self) -> None:
        """Raises the first problem.

        Raises:
            TapError: If a network contradicts the plan; names it.
        """
        if self.error is not None:
            raise self.error
        for path, problem in self.problems.items():
            raise TapError(
                f"the product of {path} must be its gate times another factor, but it {problem};"
                " pass a function as neuron_modules= that names the module of the gate, or leave"
                " this network out with it"
            )

    def dense(self, part: int, site: str, states: Tensor, start: int) -> None:
        """Compares the states of one network."""
        states = _copies_first(states)
        if states.shape[0] == COPIES:
            self._receive(part, site, states)

    def routed(
        self, part: int, site: str, states: Tensor, token: Tensor, expert: Tensor, last: bool
    ) -> None:
        """Compares the states [rows, d_ff] of one expert."""
        rows = states.shape[0] // COPIES * COPIES
        if rows:
            states = states[:rows].reshape(-1, COPIES, states.shape[1])
            self._receive(part, site, states.transpose(0, 1))

    def _receive(self, part: int, site: str, states: Tensor) -> None:
        if part not in self._by_part:
            return
        if site == GATE:
            self._gates[part] = states
            return
        experiment, path, same = self._by_part[part]
        self._conclude(path, experiment.check(self._gates.pop(part, None), states, same))

    def _conclude(self, path: str, problem: str) -> None:
        self.checked[path] = None
        if problem:
            self.problems.setdefault(path, problem)

    def _prepare(
        self,
        tap: Tap,
        modules: Mapping[str, nn.Module],
        shape: tuple[int, int],
        stack: ExitStack,
    ) -> None:
        for dense in _dense_taps(tap):
            experiment = Experiment(dict(dense.projections), dense.width)
            if not dense.projections or experiment.too_many:
                self.unchecked[tap_path(tap)] = f"it has {len(dense.projections)} projections"
                continue
            same = not dense.gate_modules
            self._by_part |= dict.fromkeys(tap.parts, (experiment, tap_path(tap), same))
            for path in experiment.widths:
                overwrite = partial(self._overwrite, dense, experiment, path, shape)
                self._hook(modules[path], overwrite, stack)
        if isinstance(tap, ExpertsTap):
            self._hook(modules[tap.path], partial(self._check_stack, tap), stack)
        if isinstance(tap, RecomputedTap):
            own_input = partial(self._guarded, _own_input)
            hook = modules[tap.path].register_forward_pre_hook(own_input, with_kwargs=True)
            stack.callback(hook.remove)
            self._hook(modules[tap.path], partial(self._check_kernel, tap), stack)

    def _hook(
        self, module: nn.Module, run: Callable[[nn.Module, Any, Any], None], stack: ExitStack
    ) -> None:
        """Hooks ``run`` behind a module."""
        stack.callback(module.register_forward_hook(partial(self._guarded, run)).remove)

    def _guarded(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a hook; an error is kept, since other ranks may wait."""
        try:
            return run(*arguments)
        except Exception as error:
            self.error = self.error or error
            return None

    def _overwrite(
        self,
        tap: DenseTap,
        experiment: Experiment,
        path: str,
        shape: tuple[int, int],
        module: nn.Module,
        args: Any,
        output: Any,
    ) -> None:
        out = local_shard(next(tensors_of(output)))
        rows = tap.rows and out.reshape(-1, 1, out.shape[-1])
        view = rows if isinstance(rows, Tensor) else _copies_first(tap.layout.ordered(out, shape))
        shared = view.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
        if view.shape[-1] != experiment.widths[path] or not shared:
            self.unchecked[tap.path] = f"the output of {path} cannot be overwritten"
            return
        copies = torch.arange(view.shape[0], device=view.device) % COPIES
        view.copy_(experiment.values(path, view)[copies][:, None].expand_as(view))

    def _check_stack(self, tap: ExpertsTap, module: nn.Module, args: Any, output: Any) -> None:
        """Experts as 3-D weights: their activation is called with values of ours."""
        weights = weights_of(module, tap.recipe.transposed)
        columns = sum(weight.shape[1] for weight in weights.inward)
        experiment = Experiment({PROJECTED: columns}, tap.recipe.width)
        like = local_shard(weights.down)
        # Weights that are offloaded have no values here.
        values = experiment.values(PROJECTED, next(tensors_of(args)) if like.is_meta else like)
        product, gate = apply_gate(module, values.clone()), tap.recipe.gate
        states = product if gate is None else gate({PROJECTED: values})
        read = states[:, None] if GATE in self.sites else None
        self._conclude(tap.path, experiment.check(read, product[:, None], gate is None))

    def _check_kernel(self, tap: RecomputedTap, module: nn.Module, args: Any, output: Any) -> None:
        """A fused network: its output for an input of ours is that of its down projection."""
        hidden, out = next(tensors_of(args)), next(tensors_of(output))
        _, product = tap.states(module, hidden)
        expected = tap.states.output(module, product)
        bound = TOLERANCE.get(out.dtype, TOLERANCE[torch.bfloat16]) * expected.float().norm()
        close = bool((out.float() - expected.float()).norm() <= bound)
        self._conclude(tap.path, "" if close else "does not give the output of the network")


def tap_path(tap: Any) -> str:
    """The path by which a network is named."""
    return str(tap.path)


def _dense_taps(tap: Tap) -> tuple[DenseTap, ...]:
    if isinstance(tap, ExpertGroupTap):
        return tap.experts
    return (tap,) if isinstance(tap, DenseTap) else ()


def _copies_first(states: Tensor) -> Tensor:
    """[COPIES, tokens, width]; the tokens of a single sentence are copies."""
    return states.transpose(0, 1) if states.shape[0] == 1 else states


def _zero(module: nn.Module, args: Any, output: Any) -> None:
    local_shard(next(tensors_of(output))).zero_()


def _own_input(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """Normally distributed values in place of the first argument."""
    if not args or not isinstance(args[0], Tensor):
        return None
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(args[0].shape, generator=generator)
    return (values.to(args[0].device, args[0].dtype), *args[1:]), kwargs
