"""What ``torchrun`` starts in test_ranks.py: ranks that exchange as in a probe, and end at once.

The DDP wrapper keeps the threads of the group alive, as it does in a training script.
"""

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from neuronxa_callback.probe.distributed import world_of

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(4, 4))
world = world_of(model)
for _ in range(20):
    world.sum_over_data_ranks(torch.ones(4))
    world.first_error(None)
dist.destroy_process_group()
