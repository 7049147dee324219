"""Mixtures of experts: where their neurons are, and how they are read."""
