"""From neuron states to scores: pure functions of tensors and arrays, and tables of metrics."""
