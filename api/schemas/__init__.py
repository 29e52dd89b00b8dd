"""Shapes of requests and responses, one module per noun."""
