"""What batch scoring needs MLflow for: find a version, fetch it, prove it; each in a process of its own.

MLflow takes several times the memory that scoring does, and no process has the memory of both that it takes to ask a
registry and to load a model. The second process imports while the first one asks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from serve.batch.subprocess_call import Apart
from serve.model.onnx_graph import Described, Graph, open_graph
from stepkit.store.model_address import Registered


@contextmanager
def fetching() -> Iterator[Callable[[str], tuple[Registered, Graph]]]:
    """Begin the processes of a fetch before it is known whether they are needed; they end with the `with`.

    Yields a function that returns the version that an address means, and its graph, which answers as the registered
    model does.

    Raises:
        BadParameter: no such address, model, alias or version.
        ModelRefused: it cannot be loaded, or does not answer so.
        TrackingUnreachable: the registry or the artifact store does not answer.
        ProcessLost: a process was ended from outside.
    """
    with (
        # removed last, when no process is left that could write to it
        tempfile.TemporaryDirectory(prefix="batch-model-") as folder,
        Apart(_fetch, "stepkit.store.registry", "serve.model.servable") as fetch,
        Apart(_prove, "serve.model.servable") as prove,
    ):

        def graph(address: str) -> tuple[Registered, Graph]:
            version, path = fetch(address, folder)
            return version, open_graph(version.name, version.version, prove(version, path))

        yield graph


# what follows runs in the processes apart: only there may MLflow be imported


def _fetch(address: str, folder: str) -> tuple[Registered, Path]:
    from serve.model.servable import download, refusing
    from stepkit.step.exit import as_step_error
    from stepkit.store.registry import registered

    try:
        version = registered(address)
        with refusing(version.version):
            return version, download(version.name, version.version, folder)
    except Exception as error:
        raise (as_step_error(error) or error) from error


def _prove(version: Registered, path: Path) -> Described:
    from serve.model.servable import described, proven, refusing

    with refusing(version.version):
        return described(path, proven(version.name, version.version, path).metadata)
