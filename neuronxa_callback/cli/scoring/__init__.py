"""What ``neuronxa score`` can measure besides the scores."""
