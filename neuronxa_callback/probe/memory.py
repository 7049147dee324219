"""Memory of a device: what it looks like when it has run out, and how it is given back."""

import traceback

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

SAID = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""What libraries below torch say."""


def is_oom(error: Exception) -> bool:
    """Whether memory had run out, whoever says so."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return should_reduce_batch_size(error) or any(each in str(error) for each in SAID)


def free_memory(device: torch.device, error: Exception | None = None) -> None:
    """Let go of what an error holds, and of what the allocator keeps for later.

    An error keeps every tensor alive that was in reach of the functions it passed through.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    if device.type != "cpu":
        clear_device_cache()
