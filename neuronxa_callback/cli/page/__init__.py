"""``neuronxa page``."""
