"""The loss of the probe's own sentences: the diagnostic ``"loss"``, by forwards of its own."""
