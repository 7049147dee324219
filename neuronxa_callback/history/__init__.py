"""A run's reports over time: what changed, when to probe, when to stop."""
