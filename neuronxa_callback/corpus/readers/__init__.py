"""Files and tables of parallel sentences."""
