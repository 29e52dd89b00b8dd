"""A real HTTP server that takes webhooks, and answers as a test wants."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """The message."""
        event: dict[str, Any] = orjson.loads(self.body)
        return event


Answer = Callable[[BaseHTTPRequestHandler, Received], None]
"""Writes a response."""


@dataclass
class Receiver:
    """What came, and how it is answered: by `answer`, with 204 by default."""

    port: int
    scheme: str
    received: list[Received] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: status(204))

    @property
    def url(self) -> str:
        """Its address."""
        return f"{self.scheme}://127.0.0.1:{self.port}/hook"

    def wait(self, number: int, timeout_s: float = 30.0) -> list[Received]:
        """Wait until so many requests have come; returns all."""
        give_up_at = time.monotonic() + timeout_s
        while len(self.received) < number:
            assert time.monotonic() < give_up_at, self.received
            time.sleep(0.01)
        return list(self.received)


def status(*codes: int, **headers: str) -> Answer:
    """Answers with these codes one after the other, the last one for ever."""
    rest = list(codes)
    lock = threading.Lock()

    def answer(handler: BaseHTTPRequestHandler, _: Received) -> None:
        with lock:
            code = rest.pop(0) if len(rest) > 1 else rest[0]
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver on a free port of the loopback, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            headers = {name.lower(): value for name, value in self.headers.items()}
            message = Received(self.path, headers, self.rfile.read(length))
            receiver.received.append(message)
            receiver.answer(self, message)

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """Clients that hang up are part of the tests."""

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver = Receiver(server.server_port, "https" if tls else "http")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
