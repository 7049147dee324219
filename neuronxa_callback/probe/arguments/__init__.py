"""The arguments with which a model of any kind is called."""
