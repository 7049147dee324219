"""Finds the feed-forward neurons of a model and reads them with hooks."""
