"""Solves batches with an engine; the live half of the two levels of control."""
