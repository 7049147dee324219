"""The tokenizer of the training script: a private copy of it, and its language codes."""
