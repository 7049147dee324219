"""The ranks of a probe and their exchanges: exact sums, numbers, error messages.

Before every exchange, all ranks confirm that none of them has failed since the last one. So a
failure on one rank, wherever it is, reaches the others at their next exchange, whichever that is,
before any data is sent.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from neuronxa_callback.errors import BrokenForwardError

OK, NO, FAILED = 0, 1, 1000
"""What a rank states before an exchange: it goes on; it goes on and votes no; it has failed.
``FAILED`` minus the depth of the section that failed: the outermost gives the largest number."""


class OtherRankFailedError(BaseException):
    """Leaves a section because another rank has failed; ``synchronize_errors`` raises its message.

    Not an ``Exception``: no handler on the way may take it for an error of this rank.
    """


class Agreement:
    """Whether all ranks still go on together, as far as this rank knows."""

    def __init__(self, device: torch.device) -> None:
        self.depth = 0
        """The number of sections (``synchronize_errors``) that this rank is in."""
        self.failed_at: int | None = None
        """The depth of the section in which a rank has failed; None while all go on."""
        # Allocated in advance, because memory may have run out when it is needed.
        self._flag = torch.zeros(1, dtype=torch.float32, device=device)

    def exchange(self, state: int) -> int:
        """Collective over all ranks: the largest state of any of them.

        Raises:
            OtherRankFailedError: If any rank has failed.
        """
        if self.failed_at is None:
            self._flag.fill_(state)
            largest = int(_run_collective(dist.all_reduce, self._flag, op=dist.ReduceOp.MAX))
            if largest <= NO:
                return largest
            self.failed_at = FAILED - largest
        raise OtherRankFailedError

    @contextmanager
    def section(self) -> Iterator[None]:
        """One more section, until the end of the block."""
        if self.depth == 0:
            self.failed_at = None
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def first_error(self, message: str | None, before: str) -> str | None:
        """Collective, at the end of a section: the message of the first rank that has one."""
        try:
            self.exchange(OK if message is None else FAILED - self.depth)
        except OtherRankFailedError:
            if self.failed_at is not None and self.failed_at < self.depth:
                raise
            self.failed_at = None
            gathered: list[str | None] = [None] * dist.get_world_size()
            _run_collective(dist.all_gather_object, gathered, message)
            messages = [text for text in gathered if text is not None]
            return min(messages, key=lambda text: not text.startswith(before), default=None)
        return None


@dataclass(frozen=True)
class World:
    """The ranks of one probe, seen from this one."""

    rank: int = 0
    """Index among the ranks that share the work."""
    size: int = 1
    """Number of ranks that share the work; a tensor-parallel group counts as one."""
    data: Any = None
    """Process group of the ranks that share the work; None for a single rank."""
    tensor: Any = None
    """Process group of the ranks that hold slices of the same neurons; None without slices."""
    agreement: Agreement | None = None
    """With all other processes; None if there are none."""

    def sum_over_data_ranks(self, *tensors: Tensor) -> None:
        """Collective: the sums over the ranks that share the work, in place.

        Exact if at most one rank has a value other than zero in each place, as is the case here.
        """
        self._sum(tensors, self.data if self.size > 1 else None)

    def sum_over_tensor_ranks(self, tensor: Tensor) -> Tensor:
        """Collective: the sum over slices of the neurons, in place where it is contiguous."""
        if self.tensor is None:
            return tensor
        tensor = tensor.contiguous()
        self._sum((tensor,), self.tensor)
        return tensor

    def run_together(self, forward: Callable[[], object]) -> object:
        """Collective over all ranks: runs a forward in which the model exchanges data.

        Raises:
            BrokenForwardError: If it fails: the other ranks wait in it.
        """
        self.confirm()
        try:
            return forward()
        except Exception as error:
            raise BrokenForwardError(
                "the model's forward failed in a probe while its weights are spread over ranks,"
                f" so the job ends as it would in training: {type(error).__name__}: {error}"
            ) from error

    def confirm(self) -> None:
        """Collective over all ranks: whether they go on.

        Raises:
            OtherRankFailedError: If any rank has failed.
        """
        if self.agreement is not None:
            self.agreement.exchange(OK)

    def all_ok(self, ok: bool) -> bool:
        """Collective over all ranks: whether ``ok`` is true on every rank."""
        return ok if self.agreement is None else self.agreement.exchange(OK if ok else NO) == OK

    def section(self) -> AbstractContextManager[None]:
        """A section whose errors are raised on all ranks; ``first_error`` ends it."""
        return nullcontext() if self.agreement is None else self.agreement.section()

    def first_error(self, message: str | None, before: str = "") -> str | None:
        """Collective over all ranks: the message of the first rank that has one.

        Args:
            message: The error of this rank; None if it has none.
            before: Messages that start with this take precedence.

        Raises:
            OtherRankFailedError: If a rank has failed outside of this section.
        """
        if self.agreement is None:
            return message
        return self.agreement.first_error(message, before)

    def gather(self, numbers: Sequence[int]) -> list[list[int]]:
        """Collective over all ranks: the integers of every rank, equally many on each."""
        if self.agreement is None:
            return [list(numbers)]
        own = torch.tensor(numbers, dtype=torch.long, device=_exchange_device())
        rows = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        self.confirm()
        _run_collective(dist.all_gather, rows, own)
        return [row.tolist() for row in rows]

    def from_first_rank(self, number: int) -> int:
        """Collective over all ranks: the number of the first rank."""
        return self.gather([number])[0][0]

    def device(self, model_device: torch.device) -> torch.device:
        """Where sums are kept: the model's device, or this rank's GPU if NCCL needs one."""
        if model_device.type == "cpu" and self.agreement is not None:
            return _exchange_device()
        return model_device

    def _sum(self, tensors: Sequence[Tensor], group: Any) -> None:
        if group is not None:
            self.confirm()
            for tensor in tensors:
                _run_collective(dist.all_reduce, tensor, group=group)


_agreements: dict[torch.device, Agreement] = {}
"""All sections share one, whatever they are sections of."""


def all_ranks() -> World:
    """All processes, each with whole sentences and neurons."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return World()
    device = _exchange_device()
    if device not in _agreements:
        _agreements[device] = Agreement(device)
    everyone = dist.group.WORLD
    return World(dist.get_rank(), dist.get_world_size(), everyone, None, _agreements[device])


@contextmanager
def process_group() -> Iterator[tuple[int, str | None]]:
    """The process group of ``torchrun``: yields this rank, and its device (None without a GPU).

    Does nothing in a single process, or if a process group already exists.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield (dist.get_rank() if dist.is_initialized() else 0), None
        return
    device = None
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    dist.init_process_group("gloo" if device is None else "nccl")
    try:
        yield dist.get_rank(), device
    finally:
        dist.destroy_process_group()


def _exchange_device() -> torch.device:
    """Where flags and numbers are exchanged: the host, or this rank's accelerator."""
    backend, accelerator = dist.get_backend(), torch.accelerator.current_accelerator()
    if backend in ("gloo", "mpi") or accelerator is None:
        return torch.device("cpu")
    if accelerator.type == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return accelerator


_latest: list[Any] = []


def _run_collective(
    collective: Callable[..., Any], target: Any, *arguments: Any, **options: Any
) -> Any:
    """Runs a collective that writes into ``target``.

    If it fails, the job must end. The latest exchange is kept: if one of gloo's threads were its
    last owner while Python shuts down, the process would abort.
    """
    try:
        gloo = dist.get_backend(options.get("group")) == "gloo"
        if gloo and collective is not dist.all_gather_object:
            work = collective(target, *arguments, async_op=True, **options)
            work.wait()
            _latest[:] = [work]
        else:
            collective(target, *arguments, **options)
    except RuntimeError as error:
        raise BrokenForwardError(
            "an exchange between ranks failed in a probe (was one of them killed?), so the job"
            f" ends as it would in training: {type(error).__name__}: {error}"
        ) from error
    return target
