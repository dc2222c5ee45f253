"""A TCP port that leads to another one for a while, or breaks at the worst moment."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self

from stepkit.processes import find_free_port


class TcpProxy:
    """Lets a port lead to another one for the time of a `with`; afterwards it is as if that server were gone."""

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port or find_free_port()
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._sockets.append(socket.create_server(("127.0.0.1", self.port)))
        threading.Thread(target=self._accept, args=self._sockets, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # close() alone does not end an accept() in another thread
            one.close()

    def _accept(self, door: socket.socket) -> None:
        with suppress(OSError):  # the door is closed: the test is over
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
    """Once `armed`, the next COMMIT is let through, and then the line is cut before the answer."""

    armed = False
    cuts = 0

    def pass_on(self, data: bytes, source: socket.socket, to: socket.socket, asks: bool) -> None:
        if asks and self.armed and b"COMMIT" in data:
            self.armed = False
            source.shutdown(socket.SHUT_RDWR)  # nothing gets back to the client from here on
            self.cuts += 1
        to.sendall(data)
