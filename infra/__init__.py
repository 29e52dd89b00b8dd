"""Runs the parts together: local supervisor, command, deployment files."""
