"""Receiver of webhooks on this machine: stores the messages that are posted to it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Receiver:
    """Receiver on a free port while its context is open; `is_down` makes it respond with 503."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.is_down = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not receiver.is_down:
                    receiver.received.append(json.loads(body))
                self.send_response(503 if receiver.is_down else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Log nothing: `received` has the messages."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """The apprise address of the receiver."""
        return f"json://127.0.0.1:{self._server.server_port}/alerts"

    def list_titles(self) -> list[str]:
        """Return the titles of the received messages, oldest first."""
        return [str(message["title"]) for message in self.received]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
