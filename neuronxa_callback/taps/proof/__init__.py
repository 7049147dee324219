"""Proofs that a tap plan reads what it says, on the very model that is measured."""
