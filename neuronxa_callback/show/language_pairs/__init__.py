"""All pairs of languages: their order, and a table for the terminal."""
