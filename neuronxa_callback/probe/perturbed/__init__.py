"""A second probe, of perturbed sentences, beside that of the clean ones."""
