"""A server that answers by a script, for what a real one cannot be made to do on time."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

STOPPING = {"error": {"message": "Wait.", "code": "server_stopping"}}

Script = list[tuple[int, Any, dict[str, str]]]


@contextmanager
def scripted(script: Script) -> Iterator[str]:
    """URL of a server that gives each GET the next status, JSON and headers, and takes them off."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body, headers = script.pop(0)
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
