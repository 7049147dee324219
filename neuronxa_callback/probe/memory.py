"""Out of memory: recognise the error, and free what it holds."""

import traceback

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

LIBRARY_ERRORS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Error codes of libraries below torch that mean out of memory."""


def is_oom(error: Exception) -> bool:
    """Whether the error means out of memory, whichever library raised it."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    return should_reduce_batch_size(error) or any(code in str(error) for code in LIBRARY_ERRORS)


def free_memory(device: torch.device, error: Exception | None = None) -> None:
    """Empties the allocator's cache, and releases the tensors that an error keeps alive.

    A traceback refers to the local variables of every function that the error passed through.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    if device.type != "cpu":
        clear_device_cache()
