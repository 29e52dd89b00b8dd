"""Counts and times requests, names them, tells their rate, and turns a crash into the envelope.

Labels are route templates, never paths or tenants, so their number is bounded.
"""

import re
import time
from asyncio import CancelledError
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars
from uuid_utils import uuid7

from api.errors import internal, stopping
from api.rate_limits import RateLimit

_log = structlog.get_logger(__name__)
_REQUEST_ID = re.compile(rb"[\w.:-]{1,128}", re.ASCII)
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_CLIENT_CLOSED_REQUEST = 499
"""Counted when the client left before it was answered, as nginx does; nobody receives it."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMetrics:
    """Prometheus metrics of HTTP requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route", "status")
        self._requests = Counter(
            "slackline_http_requests", "HTTP requests served.", labels, registry=registry
        )
        self._latency = Histogram(
            "slackline_http_request_duration_seconds",
            "Time from the request's head to the end of its response.",
            ("method", "route"),
            registry=registry,
            buckets=_BUCKETS_S,
        )

    def observe(self, scope: Scope, status: int, duration_s: float) -> None:
        """Count one served request."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(method, route).observe(duration_s)


class Telemetry:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; every response carries `X-Request-ID`."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        # For every log line of this request, which has a task of its own.
        bind_contextvars(request_id=request_id)
        started = time.perf_counter()
        status = 500
        is_started = False

        async def send_named(message: Message) -> None:
            nonlocal status, is_started
            if message["type"] == "http.response.start":
                status, is_started = message["status"], True
                headers = _headers(message)
                headers.append((b"x-request-id", request_id.encode()))
                rate_limit: RateLimit | None = scope.get("state", {}).get("rate_limit")
                if rate_limit is not None:
                    for name, value in rate_limit.headers().items():
                        headers.append((name.lower().encode(), value.encode()))
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            status = _CLIENT_CLOSED_REQUEST
        except CancelledError:
            # The server stops and will not wait any longer for this request.
            if not is_started:
                await stopping().response()(scope, receive, send_named)
        except Exception:
            _log.exception(
                "request.failed",
                method=scope["method"],
                path=scope["path"],
                request_id=request_id,
                **scope.get("path_params", {}),  # The ids of what it was about.
            )
            if is_started:
                raise  # Half a response is out: only closing the connection tells the client.
            await internal(request_id).response()(scope, receive, send_named)
        finally:
            self._metrics.observe(scope, status, time.perf_counter() - started)


def _request_id(scope: Scope) -> str:
    """The client's request id when it is a plain word, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return str(value.decode())
    return f"req_{uuid7().hex}"


def _headers(message: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
    headers = list(message.get("headers", []))
    message["headers"] = headers
    return headers
