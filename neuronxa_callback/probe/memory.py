"""Out of memory: recognise the error, and free what it holds."""

import gc
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


def free_memory(error: Exception | None = None) -> None:
    """Empties the allocator's cache, and releases the tensors that an error keeps alive.

    A traceback refers to the local variables of every function that the error passed through.
    """
    if error is not None:
        cause: BaseException | None = error
        while cause is not None:
            traceback.clear_frames(cause.__traceback__)
            cause = cause.__cause__ or cause.__context__
        # Hooks and the objects that they write to refer to each other.
        gc.collect()
    clear_device_cache()
