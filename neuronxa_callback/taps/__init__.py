"""Finds the feed-forward neurons of a PyTorch model and reads their states with hooks.

This package can be used alone: it imports nothing of ``neuronxa_callback`` but its errors. Give
``discover`` a model and one forward pass, then attach the plan with a sink that receives the states
of every later forward pass. The hooks change no output and are removed when the context closes.

A model of two blocks, and a sink that keeps the mean state of every neuron:

    >>> import torch
    >>> from torch import nn
    >>> from neuronxa_callback.taps import discover
    >>> class Block(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.up, self.down = nn.Linear(8, 32), nn.Linear(32, 8)
    ...     def forward(self, x):
    ...         return x + self.down(torch.relu(self.up(x)))
    >>> model = nn.Sequential(nn.Embedding(10, 8), Block(), Block()).eval()
    >>> ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    >>> plan = discover(model, lambda: model(ids))
    >>> [(part.layer, part.path, part.width) for part in plan.parts]
    [(1, '1.down', 32), (2, '2.down', 32)]
    >>> class MeanSink:
    ...     def __init__(self):
    ...         self.means = {}
    ...     def dense(self, part, site, states, start):
    ...         self.means[part, site] = states.mean(dim=(0, 1))
    ...     def routed(self, part, site, states, token, expert, last):
    ...         raise NotImplementedError("this model has no routed experts")
    >>> sink = MeanSink()
    >>> with torch.no_grad(), plan.attach(model, ["product"], sink, lambda: ids.shape) as reader:
    ...     reader.begin()
    ...     logits = model(ids)
    ...     reader.end()
    >>> reader.error is None
    True
    >>> {key: tuple(mean.shape) for key, mean in sink.means.items()}
    {(0, 'product'): (32,), (1, 'product'): (32,)}
"""

from neuronxa_callback.taps.plan import FFNPart, Reader, StateSink, TapPlan, discover

__all__ = ["FFNPart", "Reader", "StateSink", "TapPlan", "discover"]
