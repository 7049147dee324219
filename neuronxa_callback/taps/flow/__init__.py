"""Follows tensors through one recorded forward pass: their tokens, their factors, their use."""
