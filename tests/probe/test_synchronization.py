"""One error for all ranks: which error each of them raises."""

from contextlib import nullcontext

import pytest
import torch

from neuronxa_callback.errors import BrokenForwardError, ProbeError, ProbeMemoryError
from neuronxa_callback.probe.distributed import OtherRankFailedError, World
from neuronxa_callback.probe.synchronization import OUT_OF_MEMORY, synchronize_errors


class TwoRanks:
    """This rank and another one, which has a message or none."""

    def __init__(self, other=None):
        self.other = other

    def section(self):
        return nullcontext()

    def first_error(self, message, before=""):
        messages = [each for each in (self.other, message) if each is not None]
        return min(messages, key=lambda each: not each.startswith(before), default=None)


def raised(error, other=None):
    """The error that leaves a section in which this rank raises ``error``."""

    def section():
        with synchronize_errors(TwoRanks(other)):
            if error is not None:
                raise error

    with pytest.raises((ValueError, ProbeError, BrokenForwardError)) as caught:
        section()
    return caught.value


def test_a_section_without_errors_raises_none():
    with synchronize_errors(World()):
        pass


def test_the_error_of_this_rank_is_raised_as_it_is():
    error = ValueError("a hook broke")
    assert raised(error) is error


@pytest.mark.parametrize("own", [None, OtherRankFailedError()])
def test_the_error_of_another_rank_is_raised_with_its_message(own):
    error = raised(own, "ValueError: a hook broke")
    assert type(error) is ProbeError
    assert str(error) == "a probe failed on another rank: ValueError: a hook broke"


@pytest.mark.parametrize("own", [None, ValueError("a hook broke")])
def test_out_of_memory_on_another_rank_is_out_of_memory_here(own):
    error = raised(own, f"{OUT_OF_MEMORY}OutOfMemoryError: no room")
    assert type(error) is ProbeMemoryError
    assert str(error) == "OutOfMemoryError: no room"


def test_out_of_memory_on_this_rank_keeps_its_cause():
    error = raised(cause := torch.OutOfMemoryError("no room"))
    assert type(error) is ProbeMemoryError
    assert error.__cause__ is cause


def test_a_broken_forward_does_not_wait_for_other_ranks():
    error = BrokenForwardError("others wait")
    assert raised(error, "another message") is error
