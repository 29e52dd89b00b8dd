"""Python client and command of the HTTP API; imports nothing of the server."""
