"""Statistics of single neurons: which fire in which language, each with its chance level."""
