"""Readers of parallel text: each takes a path and returns ``ParallelRows``.

The constructors of ``ParallelCorpus`` document their options.
"""
