"""A run's reports over time: history and stop rules."""
