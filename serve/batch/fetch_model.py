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
from serve.model.onnx_graph import Described, Graph, open_graph
from stepkit.paths import ROOT
from stepkit.processes import end_with_parent
from stepkit.step.exit import one_message
from stepkit.store.model_address import Registered


def fetch(address: str) -> tuple[Registered, Graph]:
    """Return the version that an address means, and its graph, which answers as the registered model does.

    Raises:
        SystemExit: the process has printed why: no such version, it cannot be loaded, the registry does not answer.
        ProcessLost: the process was ended from outside.
    """
    with tempfile.TemporaryDirectory(prefix="batch-model-") as folder:
        version, described = fetch_apart(address, folder)
        return version, open_graph(version.name, version.version, described)


def fetch_apart(address: str, folder: str) -> tuple[Registered, Described]:
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
    return Registered(**answer["version"]), Described(Path(path), tuple(names), tuple(text), threshold)


def fetch_here(address: str, folder: str) -> tuple[Registered, Described]:
    """Fetch a version into `folder` and prove it: the only function here that loads MLflow."""
    from serve.model.servable import described, download, proven, refusing
    from stepkit.store.registry import registered

    version = registered(address)
    with refusing(version.version):
        path = download(version.name, version.version, folder)
        return version, described(path, proven(version.name, version.version, path).metadata)


def main() -> None:
    address, folder, parent = sys.argv[1:]
    end_with_parent(parent_id=int(parent))
    gc.disable()  # the process makes one call: what it imports stays, and to look through it takes long
    with one_message():
        version, described = fetch_here(address, folder)
        print(json.dumps({"version": asdict(version), "described": asdict(described)}, default=str))


if __name__ == "__main__":
    main()
