"""Neuron statistics in a probe: firings are counted in the pass that computes the scores."""
