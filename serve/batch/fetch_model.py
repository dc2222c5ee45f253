"""What batch scoring needs MLflow for: find a version, fetch it, prove it; in a process of its own.

MLflow takes several times the memory that scoring does, and all of it is given back when the process ends.
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

from serve.errors import ProcessLost
from serve.model.onnx_graph import Graph, GraphFile, open_graph
from stepkit.paths import ROOT
from stepkit.processes import end_with_parent
from stepkit.step.exit import exit_on_error
from stepkit.store.model_address import RegisteredVersion


def fetch_model(address: str) -> tuple[RegisteredVersion, Graph]:
    """Return the version that an address means, and its graph, which answers as the registered model does.

    Raises:
        SystemExit: the process has printed why: no such version, it cannot be loaded, the registry does not answer.
        ProcessLost: the process was ended from outside.
    """
    with tempfile.TemporaryDirectory(prefix="batch-model-") as folder:
        version, described = fetch_in_subprocess(address, folder)
        return version, open_graph(version.name, version.version, described)


def fetch_in_subprocess(address: str, folder: str) -> tuple[RegisteredVersion, GraphFile]:
    """Call `fetch_here` in a process of its own, which ends with this one."""
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "serve.batch.fetch_model", address, folder, str(os.getpid())],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        process_group=0,  # Ctrl-C reaches this process alone, which then kills the other
    )
    if ended.returncode < 0:
        killed = " It was killed, as is done where memory is short: free some and type the same again."
        raise ProcessLost(
            f"the process that loads the model ended with status {ended.returncode} and no answer."
            f"{killed if ended.returncode == -signal.SIGKILL else ''}"
        )
    if ended.returncode:
        sys.exit(ended.returncode)
    answer = json.loads(ended.stdout.splitlines()[-1])
    path, names, text, threshold = answer["described"].values()
    return RegisteredVersion(**answer["version"]), GraphFile(Path(path), tuple(names), tuple(text), threshold)


def fetch_and_verify(address: str, folder: str) -> tuple[RegisteredVersion, GraphFile]:
    """Fetch a version into `folder` and prove it: the only function here that loads MLflow."""
    from serve.model.servable import download_model, load_verified, read_graph_file, reject_on_error
    from stepkit.store.registry import get_registered_version

    version = get_registered_version(address)
    with reject_on_error(version.version):
        path = download_model(version.name, version.version, folder)
        return version, read_graph_file(path, load_verified(version.name, version.version, path).metadata)


def main() -> None:
    address, folder, parent = sys.argv[1:]
    end_with_parent(parent_id=int(parent))
    gc.disable()  # the process makes one call: what it imports stays, and to look through it takes long
    with exit_on_error():
        version, described = fetch_and_verify(address, folder)
        print(json.dumps({"version": asdict(version), "described": asdict(described)}, default=str))


if __name__ == "__main__":
    main()
