"""Parallel sentences: the corpus value, readers of files and tables, and quality checks."""
