"""Launches, bytes and predicted seconds of operators, by a roofline of an H200."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

NO_LAUNCH = {"view", "_unsafe_view", "expand", "slice", "select", "unsqueeze", "squeeze", "split"}
NO_LAUNCH |= {"t", "transpose", "permute", "detach", "alias", "reshape", "unbind", "as_strided"}
NO_LAUNCH |= {"diagonal", "chunk", "split_with_sizes", "lift_fresh", "device", "unfold"}
NO_LAUNCH |= {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
INDEXED = {"index", "index_select", "embedding", "gather", "index_put_", "index_add_"}
"""Operators that touch only some rows of their first argument."""
BANDWIDTH, HOST_BANDWIDTH, LAUNCH = 4.8e12, 50e9, 4e-6
"""Bytes per second of the device's memory and between host and device; seconds of a launch."""
PEAK = {torch.bfloat16: 790e12, torch.float16: 790e12}
OTHER_PEAK = 60e12


def _flops_of(packet, args, kwargs, out):
    """Multiplications and additions; 0 for operators that do few."""
    formula = flop_registry.get(packet)
    if formula:
        return formula(*args, **kwargs, out_val=out)
    if packet.__name__ == "_grouped_mm":
        return 2 * out.numel() * args[0].shape[-1]
    if packet.__name__ == "compare":
        # Of the probe's kernels. Whole numbers are multiplied in 16 bits.
        return 2 * args[0].numel() * args[1].shape[1] * (0.3 if args[3] else 1)
    return 0


class Counts(TorchDispatchMode):
    """Launches, bytes and predicted seconds of the operators on one device."""

    def __init__(self, device):
        super().__init__()
        self.device = device
        self.launches, self.bytes, self.seconds = Counter(), 0, 0.0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        name = packet.__name__
        leaves = tree_leaves((args, kwargs, out))
        tensors = list({id(t): t for t in leaves if isinstance(t, torch.Tensor)}.values())
        if name in NO_LAUNCH or not any(t.device.type == self.device for t in tensors):
            return out
        if name in INDEXED:
            # What is read or written of the first tensor is as large as the values.
            tensors = [t for t in tensors if t is not args[0] and t is not out]
            tensors += 2 * [args[2 if name == "index_put_" else 3] if name[-1] == "_" else out]
        moved = sum(t.numel() * t.element_size() for t in tensors)
        flops = _flops_of(packet, args, kwargs or {}, out)
        self.launches[name] += 1
        self.bytes += moved
        peak = PEAK.get(tensors[0].dtype, OTHER_PEAK) if tensors else OTHER_PEAK
        between = len({t.device.type for t in tensors if t.ndim}) > 1
        bandwidth = HOST_BANDWIDTH if between else BANDWIDTH
        self.seconds += max(moved / bandwidth, flops / peak, LAUNCH)
        return out
