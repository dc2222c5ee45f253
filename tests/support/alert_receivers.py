"""Local stand-ins for Slack and PagerDuty: apprise's plug-ins send to the real URLs, through our own proxy.

The proxy accepts CONNECT for any host and terminates the TLS connection itself, with a certificate for that host.
The requests are therefore byte for byte the same as for the real services.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ANSWERS = {"hooks.slack.com": (200, b"ok"), "events.pagerduty.com": (202, b'{"status": "success"}')}


@dataclass
class Post:
    """Request that a service received."""

    host: str
    path: str
    body: Any


@dataclass
class Services:
    """Requests received by the services; the variables in `env` direct a process to them."""

    env: dict[str, str]
    posts: list[Post] = field(default_factory=list)

    def list_posts(self, host: str) -> list[Post]:
        return [post for post in self.posts if post.host == host]


@contextmanager
def run_alert_services(folder: Path) -> Iterator[Services]:
    """Run the proxy and yield the received requests."""
    certificate = folder / "services.pem"
    names = ",".join(f"DNS:{host}" for host in ANSWERS)
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=services of a test",
    ]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(certificate)]
    subprocess.run([*command, "-addext", f"subjectAltName={names}", *files], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, folder / "key.pem")
    services = Services({"NO_PROXY": "127.0.0.1", "REQUESTS_CA_BUNDLE": str(certificate)})

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        host = ""

        def do_CONNECT(self) -> None:
            self.host = self.path.partition(":")[0]
            self.send_response(200)
            self.end_headers()
            self.connection = tls.wrap_socket(self.connection, server_side=True)
            self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
            self.close_connection = False

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            services.posts.append(Post(self.host, self.path, json.loads(body)))
            status, answer = ANSWERS[self.host]
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Print nothing, because the requests are recorded in `posts`."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        services.env["HTTPS_PROXY"] = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield services
        server.shutdown()
