"""The proof of a tap plan at the first probe of a model: a fixed number of short forwards."""
