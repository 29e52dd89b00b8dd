"""Python clients and command of the HTTP API; imports nothing of the server."""

from api.client.async_client import AsyncClient
from api.client.client import Client
from api.client.errors import SlacklineError
from api.client.shapes import Explanation, Job, Problem, Quote, Result

__all__ = [
    "AsyncClient",
    "Client",
    "Explanation",
    "Job",
    "Problem",
    "Quote",
    "Result",
    "SlacklineError",
]
