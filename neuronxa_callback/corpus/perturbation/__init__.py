"""Sentences with another case, without punctuation, or with typing errors."""
