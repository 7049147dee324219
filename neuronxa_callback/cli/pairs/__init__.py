"""``neuronxa pairs``: which sentences a model aligns, and which it does not."""
