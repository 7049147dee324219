"""Kinds of checkpoints: adapters, GGUF files, models without weights."""
