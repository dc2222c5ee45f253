"""TCP ports that forward to another port for a while, or break the connection at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from stepkit.processes import find_free_port


class TcpProxy:
    """Context manager that forwards a port to another one; afterwards that server seems to be down."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port or find_free_port()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._sockets.append(socket.create_server(("127.0.0.1", self.port)))
        threading.Thread(target=self._accept, args=self._sockets, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for door in self._sockets:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)  # close() alone does not end an accept() in another thread
            door.close()

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):  # The socket was closed, because the test has ended.
            while True:
                client, _ = door.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += [client, server]
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self.pass_on(data, source, to, asks)
            to.shutdown(socket.SHUT_WR)

    def pass_on(self, data: bytes, source: socket.socket, to: socket.socket, asks: bool) -> None:
        to.sendall(data)


class CutLine(TcpProxy):
    """Proxy that, once `armed`, forwards the next COMMIT and then closes the connection before the response."""

    armed = False
    cuts = 0

    def pass_on(self, data: bytes, source: socket.socket, to: socket.socket, asks: bool) -> None:
        if asks and self.armed and b"COMMIT" in data:
            self.armed = False
            source.shutdown(socket.SHUT_RDWR)  # From here on the client receives nothing.
            self.cuts += 1
        to.sendall(data)
