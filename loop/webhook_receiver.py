"""A receiver of webhooks on this machine: takes what is posted to it, and keeps it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Receiver:
    """Listens on a free port while its context is open; `refusing` makes it answer as a service that is down."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.refusing = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not receiver.refusing:
                    receiver.received.append(json.loads(body))
                self.send_response(503 if receiver.refusing else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing: what came stands in `received`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        """Its address, as apprise writes that of a plain webhook."""
        return f"json://127.0.0.1:{self._server.server_port}/alerts"

    def list_titles(self) -> list[str]:
        return [str(message["title"]) for message in self.received]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="receiver", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
