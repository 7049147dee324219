"""A workspace of W&B for a project whose runs log alignment."""
