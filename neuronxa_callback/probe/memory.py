"""Memory: where vectors are stored; out of memory: recognise the error, and free what it holds."""

import gc
import traceback

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

LIBRARY_ERRORS = ("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
"""Error codes of libraries below torch that mean out of memory."""

HELD_ON_DEVICE = 4 * 2**30
"""Bytes of vectors that are always stored on the device. A mixture of experts with 128 experts of
768 neurons in 48 layers takes 1.9 GB per metric."""
FREE_SHARE = 4
"""More are stored there if so many times as much memory is free; else on the host, from where each
forward pass copies them."""


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


def storage_device(nbytes: int, device: torch.device) -> torch.device:
    """The device on which vectors of so many bytes are stored: ``device``, or the host."""
    fits = nbytes <= HELD_ON_DEVICE or nbytes * FREE_SHARE <= _free_bytes(device)
    return device if fits else torch.device("cpu")


def _free_bytes(device: torch.device) -> int:
    """Free bytes of a CUDA device, with those that torch's allocator holds; 0 of others."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + held)
