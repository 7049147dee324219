"""Sums of states: by kernels in one read, and by window of languages."""
