"""One probe: from a model and a corpus to one report."""
