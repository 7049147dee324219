"""A model in, a report out."""
