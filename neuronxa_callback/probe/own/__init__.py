"""Measures of one's own in a probe: their layers, their diagnostics, ranks that agree on them."""
