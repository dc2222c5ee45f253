"""Download and verification of a registered version in a child process: its loaded graph, without MLflow here.

MLflow takes several times as much memory as scoring, and all of it is freed when the child process ends.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serve.errors import ProcessLost
from serve.model.onnx_graph import Graph, GraphFile, open_graph
from stepkit.paths import ROOT
from stepkit.processes import end_with_parent
from stepkit.step.exit import exit_on_error
from stepkit.store.model_address import RegisteredVersion


def fetch_model(address: str) -> tuple[RegisteredVersion, Graph]:
    """Return the version that a models:/ address names, and its loaded graph, verified against the MLflow model.

    Raises:
        SystemExit: the child process failed and printed the reason, for example an unknown version.
        ProcessLost: the child process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="batch-model-") as folder:
        version, graph_file = fetch_in_subprocess(address, folder)
        return version, open_graph(version.name, version.version, graph_file)


def fetch_in_subprocess(address: str, folder: str) -> tuple[RegisteredVersion, GraphFile]:
    """Call `fetch_and_verify` in a child process, which ends with this process."""
    result = subprocess.run(
        [sys.executable, "-P", "-m", "serve.model.fetch_model", address, folder, str(os.getpid())],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        process_group=0,  # Ctrl-C reaches only this process, which then kills the child.
    )
    if result.returncode < 0:
        hint = " It was killed, probably because memory ran out. Free memory and run the same command again."
        raise ProcessLost(
            f"the process that loads the model was ended by a signal (status {result.returncode})."
            f"{hint if result.returncode == -signal.SIGKILL else ''}"
        )
    if result.returncode:
        sys.exit(result.returncode)
    output = json.loads(result.stdout.splitlines()[-1])
    return RegisteredVersion(**output["version"]), parse_graph_file(output["graph_file"])


def parse_graph_file(fields: dict[str, Any]) -> GraphFile:
    """Return a graph file from its fields, as the child process prints them."""
    paths = {name: Path(fields[name]) if fields[name] else None for name in ("path", "code", "description")}
    columns = {name: tuple(fields[name]) for name in ("names", "text", "protected")}
    return GraphFile(**{**fields, **paths, **columns})


def fetch_and_verify(address: str, folder: str) -> tuple[RegisteredVersion, GraphFile]:
    """Download a version into `folder` and verify it; the only function here that imports MLflow."""
    from serve.model.servable import download_model, load_verified, read_graph_file, reject_on_error
    from stepkit.store.registry import get_registered_version

    version = get_registered_version(address)
    with reject_on_error(version.version):
        path = download_model(version.name, version.version, folder)
        return version, read_graph_file(path, load_verified(version.name, version.version, path).metadata)


def main() -> None:
    """Print the version and its graph file as JSON."""
    address, folder, parent = sys.argv[1:]
    end_with_parent(parent_id=int(parent))
    gc.disable()  # After these imports, a collection is slow and would free nothing.
    with exit_on_error():
        version, graph_file = fetch_and_verify(address, folder)
        print(json.dumps({"version": asdict(version), "graph_file": asdict(graph_file)}, default=str))


if __name__ == "__main__":
    main()
