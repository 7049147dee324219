"""Saved models of a run: found, scored once, or watched while they are written."""
