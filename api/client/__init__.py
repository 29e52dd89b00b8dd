"""Python client and command of the HTTP API; imports nothing of the server."""

from api.client.client import Client
from api.client.errors import SlacklineError
from api.client.explanations import Explanation, Quote
from api.client.shapes import Job, Problem, Result

__all__ = ["Client", "Explanation", "Job", "Problem", "Quote", "Result", "SlacklineError"]
