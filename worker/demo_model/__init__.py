"""A tiny arithmetic target and draft model that make the whole service run on a CPU."""
