"""Slack and PagerDuty on this machine: apprise's own plug-ins speak to their real addresses, through a proxy of ours.

The proxy answers CONNECT for any host, and behind it ends the TLS connection itself, with a certificate for that host.
So the requests are byte for byte what Slack and PagerDuty would get; only the network is another.
"""

from __future__ import annotations

import datetime
import json
import socketserver
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = ("hooks.slack.com", "events.pagerduty.com")
ANSWERS = {"hooks.slack.com": (200, b"ok"), "events.pagerduty.com": (202, b'{"status": "success"}')}


@dataclass
class Post:
    """A request that a service got."""

    host: str
    path: str
    body: Any


class Services:
    """The proxy; `env` sends a process's requests through it."""

    def __init__(self, folder: Path) -> None:
        self.posts: list[Post] = []
        self._certificate = folder / "services.pem"
        self._certificate.write_bytes(certificate_for(HOSTS))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(self._certificate)
        services = self

        class Connection(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                services.serve(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection)
        self._server.daemon_threads = True

    @property
    def env(self) -> dict[str, str]:
        proxy = f"http://127.0.0.1:{self._server.server_address[1]}"
        return {"HTTPS_PROXY": proxy, "NO_PROXY": "127.0.0.1", "REQUESTS_CA_BUNDLE": str(self._certificate)}

    def serve(self, connection: socketserver.StreamRequestHandler) -> None:
        host = connection.rfile.readline().split()[1].decode().partition(":")[0]
        while connection.rfile.readline().strip():
            pass
        connection.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with self._tls.wrap_socket(connection.request, server_side=True) as secured:
            reader = secured.makefile("rb")
            path = reader.readline().split()[1].decode()
            headers = headers_of(reader)
            body = reader.read(int(headers["Content-Length"]))
            self.posts.append(Post(host, path, json.loads(body)))
            status, answer = ANSWERS[host]
            secured.sendall(f"HTTP/1.1 {status} OK\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer)

    def to(self, host: str) -> list[Post]:
        return [post for post in self.posts if post.host == host]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def headers_of(reader: Any) -> dict[str, str]:
    lines = iter(lambda: reader.readline().decode().strip(), "")
    return {name.strip().title(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def certificate_for(hosts: tuple[str, ...]) -> bytes:
    """A key and a certificate of its own for some hosts, as PEM; valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "services of a test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return secret + signed.public_bytes(serialization.Encoding.PEM)
