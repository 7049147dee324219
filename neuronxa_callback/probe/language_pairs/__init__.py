"""All pairs of languages in a probe: vectors held by blocks of layers, compared two by two."""
