"""Output for people: trackers, pictures, tables at the terminal, and one HTML page."""
