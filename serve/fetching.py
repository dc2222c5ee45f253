"""What batch scoring needs MLflow for: find a version, fetch it, prove it; each in a process of its own.

MLflow takes several times the memory that scoring does, and no process has the memory of both that it takes to ask a
registry and to load a model. The second process imports while the first one asks.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from serve.address import Registered
from serve.apart import Apart
from serve.graph import Described, Graph, open_graph


class Fetching:
    """The processes of a fetch, begun before it is known whether they are needed; they end with the `with`."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # removed last, when no process is left that could write to it
        self._folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="batch-model-"))
        self._fetch = self._stack.enter_context(Apart(_fetch, "serve.registry", "serve.model"))
        self._prove = self._stack.enter_context(Apart(_prove, "serve.model"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def graph(self, address: str) -> tuple[Registered, Graph]:
        """Return the version that the address means, and its graph, which answers as the registered model does.

        Raises:
            BadParameter: no such address, model, alias or version.
            ModelRefused: it cannot be loaded, or does not answer so.
            TrackingUnreachable: the registry or the artifact store does not answer.
            ProcessLost: a process was ended from outside.
        """
        version, path = self._fetch(address, self._folder)
        described = self._prove(version, path)
        return version, open_graph(version.name, version.version, described)


# what follows runs in the processes apart: only there may MLflow be imported


def _fetch(address: str, folder: str) -> tuple[Registered, Path]:
    from serve.model import download, refusing
    from serve.registry import registered
    from stepkit.command import as_step_error

    try:
        version = registered(address)
        with refusing(version.version):
            return version, download(version.name, version.version, folder)
    except Exception as error:
        raise (as_step_error(error) or error) from error


def _prove(version: Registered, path: Path) -> Described:
    from serve.model import described, proven, refusing

    with refusing(version.version):
        return described(path, proven(version.name, version.version, path).metadata)
