"""Where people look: sinks, charts and the offline page."""
