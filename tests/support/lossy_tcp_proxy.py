"""A TCP line to PostgreSQL that breaks at the worst moment: the COMMIT has gone, its answer is lost."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from stepkit.processes import free_port


class CutLine:
    """Forwards to a port; once `armed`, the next COMMIT is let through, and then the line is cut before the answer."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.armed = False
        self.cuts = 0

    def __enter__(self) -> Self:
        self._door = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._door.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the door is closed: the test is over
            while True:
                client, _ = self._door.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._forward, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(server, client, False), daemon=True).start()

    def _forward(self, source: socket.socket, to: socket.socket, asks: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                cut = asks and self.armed and b"COMMIT" in data
                if cut:
                    self.armed = False
                    source.shutdown(socket.SHUT_RDWR)  # nothing gets back to the client from here on
                    self.cuts += 1
                to.sendall(data)
                if cut:
                    to.shutdown(socket.SHUT_WR)
                    return  # closed by the other direction, when the server has answered
        for end in (source, to):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
                end.close()
