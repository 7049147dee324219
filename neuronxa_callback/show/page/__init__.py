"""The offline page: one HTML file that shows runs."""
