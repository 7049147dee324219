"""Proof by experiment that gate and product are what a plan says, in the model's own code.

One forward runs ``COPIES`` copies of a sentence. The outputs of the projections of every
feed-forward network are overwritten with values of ours, which differ between copies, and the
output of its down projection with zeros, so that nothing else differs between copies. What the taps
then read must behave like ``product = gate x other factor``. No formula of a tap is used.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from neuronxa_callback.errors import TapError
from neuronxa_callback.taps.expert_hooks import ExpertGroupTap, ExpertsTap
from neuronxa_callback.taps.hooks import DenseTap, RecomputedTap
from neuronxa_callback.taps.modules import is_linear, local_shard, modules_by_path, tensors_of
from neuronxa_callback.taps.plan import TapPlan
from neuronxa_callback.taps.reader import GATE, PRODUCT, SITES, Reader, Tap
from neuronxa_callback.taps.stacked_experts import PROJECTED, apply_gate, weights_of

COPIES = 9
"""Copies of a sentence in the forward."""
BASE, FIRST, SECOND, ALL, EVEN, ODD, OTHERS, SOME = range(8)
"""Copies by what is changed in them: nothing; the first or the second half of the columns of a
fused projection; everything; its even or odd columns; projections that are not fused; half of the
neurons. Without fused projections, copies from ``FIRST`` on change one projection each."""

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 8e-2}
"""Dtype of the states -> relative difference that rounding allows."""
MAX_OUTLIERS = 0.01
"""Share of values that may differ by more: those near zero."""
MAX_PROJECTIONS = 4
"""The most projections without a fused one that the copies can tell apart."""


@dataclass(frozen=True)
class Experiment:
    """Which copy changes which columns of which projection."""

    widths: Mapping[str, int]
    """Path of each projection -> columns on this rank."""
    width: int
    """Neurons on this rank."""

    @property
    def fused(self) -> bool:
        """Whether a projection holds two columns per neuron."""
        return any(size == 2 * self.width for size in self.widths.values())

    def changed(self, path: str) -> Tensor:
        """[COPIES, columns], whether a copy changes a column."""
        size = self.widths[path]
        column = torch.arange(size)
        changed = torch.zeros(COPIES, size, dtype=torch.bool)
        changed[ALL if self.fused else len(self.widths) + 1] = True
        if self.fused and size == 2 * self.width:
            first, even = column < size // 2, column % 2 == 0
            for copy, which in ((FIRST, first), (SECOND, ~first), (EVEN, even), (ODD, ~even)):
                changed[copy] = which
        elif self.fused:
            changed[OTHERS] = True
        else:
            changed[FIRST + list(self.widths).index(path)] = True
        changed[COPIES - 1] = self.some(column)
        return changed

    @property
    def too_many(self) -> bool:
        """Whether there are more projections than copies."""
        return not self.fused and len(self.widths) > MAX_PROJECTIONS

    def some(self, column: Tensor) -> Tensor:
        """Columns that change if half of the neurons do; the same for halves and alternation."""
        return (column // 2) % max(self.width // 2, 1) % 2 == 0

    def values(self, path: str, like: Tensor) -> Tensor:
        """[COPIES, columns]: positive values, and others of both signs where a copy changes."""
        size = self.widths[path]
        generator = torch.Generator().manual_seed(zlib.crc32(path.encode()))
        base = 0.5 + 2 * torch.rand(size, generator=generator)
        other = 3 * (2 * torch.rand(size, generator=generator) - 1)
        return torch.where(self.changed(path), other, base).to(like.device, like.dtype)

    def check(self, gate: Tensor | None, product: Tensor, same: bool) -> str:
        """What contradicts the plan; empty if nothing does.

        Args:
            gate: [COPIES, any, width]; ``None`` if it is not read.
            product: The same.
            same: Whether the plan says that the product is the gate.
        """
        tolerance = TOLERANCE.get(product.dtype, TOLERANCE[torch.bfloat16])
        product = _precise(product)
        singles = self._singles(product if gate is None else _precise(gate), tolerance)
        if problem := self._norm(product, singles, tolerance):
            return problem
        if gate is None:
            return ""
        gate = _precise(gate)
        of_product = [copy for copy in singles if _differs(product, copy, tolerance)]
        of_gate = [copy for copy in singles if _differs(gate, copy, tolerance)]
        if not of_product:
            return "does not depend on the projections in front of it"
        if same and len(of_product) > 1:
            return "depends on several projections, and no factor of it is known to be the gate"
        if len(of_gate) > 1:
            return "has a gate that depends on several projections"
        if not of_gate or (not same and of_gate == of_product):
            return "is not a product of its gate and another factor"
        if _mixed_signs(gate[BASE], tolerance):
            return "has a gate whose sign does not follow its projection"
        if not same and any(_not_a_factor(gate, product, copy, tolerance) for copy in of_gate):
            return "is not a product of its gate and another factor"
        return ""

    def _singles(self, states: Tensor, tolerance: float) -> tuple[int, ...]:
        """The copies that change one projection, or one half of a fused one."""
        if not self.fused:
            return tuple(range(FIRST, FIRST + len(self.widths)))
        halves, alternating = (FIRST, SECOND), (EVEN, ODD)
        for pair in (halves, alternating):
            if sum(_differs(states, copy, tolerance) for copy in pair) == 1:
                return (*pair, OTHERS)
        return (*halves, OTHERS)

    def _norm(self, product: Tensor, singles: Sequence[int], tolerance: float) -> str:
        """Whether all neurons are scaled by one number that depends on the other neurons."""
        neuron = torch.arange(self.width, device=product.device)
        column = 2 * neuron if EVEN in singles and self.fused else neuron
        kept = ~self.some(column)
        before, after = product[BASE][:, kept], product[COPIES - 1][:, kept]
        used = before.abs() > tolerance * before.abs().amax()
        if int(used.sum()) < 2:
            return ""
        ratio = (after / torch.where(used, before, torch.ones_like(before)))[used]
        middle = ratio.median()
        uniform = (ratio - middle).abs() <= 2 * tolerance * middle.abs()
        if uniform.float().mean() > 0.98 and (middle - 1).abs() > 3 * tolerance:
            return "is read behind a norm over all neurons, but must be read in front of it"
        return ""


def _differs(states: Tensor, copy: int, tolerance: float) -> bool:
    change = (states[copy] - states[BASE]).abs().amax()
    return bool(change > tolerance * states[BASE].abs().amax())


def _mixed_signs(gate: Tensor, tolerance: float) -> bool:
    bound = tolerance * gate.abs().amax()
    return bool((gate > bound).any() and (gate < -bound).any())


def _not_a_factor(gate: Tensor, product: Tensor, copy: int, tolerance: float) -> bool:
    """Whether product / gate changes although the gate's projection alone does."""
    one, other = product[BASE] * gate[copy], product[copy] * gate[BASE]
    difference, size = (one - other).abs(), one.abs() + other.abs()
    # "not <=" instead of ">", so that NaN counts as a difference.
    wrong = ~(difference <= tolerance * size + 1e-9 * size.amax())
    return bool(wrong.float().mean() > MAX_OUTLIERS)


def _precise(states: Tensor) -> Tensor:
    return states if states.dtype == torch.float64 else states.float()


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
    def attach(self, model: nn.Module, tokens: int) -> Iterator[Reader]:
        """Hooks that overwrite and read; ``tokens`` is the length of the sentence."""
        modules, shape = modules_by_path(model), (COPIES, tokens)
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
        """Compares the states [COPIES, tokens, width] of one network."""
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
            hook = modules[tap.path].register_forward_pre_hook(_own_input, with_kwargs=True)
            stack.callback(hook.remove)
            self._hook(modules[tap.path], partial(self._check_kernel, tap), stack)

    def _hook(
        self, module: nn.Module, run: Callable[[nn.Module, Any, Any], None], stack: ExitStack
    ) -> None:
        """Hooks ``run`` behind a module; an error is kept, since other ranks may wait."""

        def guarded(module: nn.Module, args: Any, output: Any) -> None:
            try:
                run(module, args, output)
            except Exception as error:
                self.error = self.error or error

        stack.callback(module.register_forward_hook(guarded).remove)

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
        view = rows if isinstance(rows, Tensor) else tap.layout.ordered(out, shape)
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
        values = experiment.values(PROJECTED, local_shard(weights.down))
        product, gate = apply_gate(module, values.clone()), tap.recipe.gate
        states = product if gate is None else gate({PROJECTED: values})
        read = states[:, None] if GATE in self.sites else None
        self._conclude(tap.path, experiment.check(read, product[:, None], gate is None))

    def _check_kernel(self, tap: RecomputedTap, module: nn.Module, args: Any, output: Any) -> None:
        """A fused network: its output for an input of ours is that of its down projection."""
        hidden, out = next(tensors_of(args)), next(tensors_of(output))
        _, product = tap.states(module, hidden)
        order = getattr(tap.states, "order", ())
        downs = [m for n, m in module.named_children() if is_linear(m) and n not in order]
        if len(downs) != 1:
            return
        expected = downs[0](product)
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


def _zero(module: nn.Module, args: Any, output: Any) -> None:
    local_shard(next(tensors_of(output))).zero_()


def _own_input(module: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
    """Normally distributed values in place of the first argument."""
    if not args or not isinstance(args[0], Tensor):
        return None
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(args[0].shape, generator=generator)
    return (values.to(args[0].device, args[0].dtype), *args[1:]), kwargs
