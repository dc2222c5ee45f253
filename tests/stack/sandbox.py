"""Sandbox that replaces a container engine with Linux namespaces.

All services share one network, where they reach only each other, by name. Writes to their root file system do not
reach this machine. Each service has its volumes, an account without rights, and only its own environment. All processes
are in one PID namespace, which ends with the sandbox.
"""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil
import pytest

from stepkit.paths import ROOT
from tests.stack.needs import find_problems
from tests.stack.services import Service
from tests.support.servers import wait_until

NO_RIGHTS = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
PLACES = {"/opt/venv": ROOT / ".venv", "/opt/airflow": ROOT / ".venv-airflow", "/srv/project": ROOT}
"""Folders of the images, with the folders of this machine that replace them."""

SMALL = "mlflow-artifacts"
"""Volume on its own small disk, which a test can fill."""

FIRST = """
set -eu
mount -t tmpfs -o mode=755 none {work}
mkdir {work}/upper {work}/scratch {work}/root {work}/volumes {work}/volumes/{small}
mount -t tmpfs -o size=512m,mode=755,uid=10001 none {work}/volumes/{small}
mount -t overlay overlay -o lowerdir=/,upperdir={work}/upper,workdir={work}/scratch {work}/root
mount --rbind /dev {work}/root/dev
mount -t proc proc {work}/root/proc
{places}
printf '%s\\n' '127.0.0.1 localhost' {names} > {work}/root/etc/hosts
echo app:x:10001:10001::/tmp:/usr/sbin/nologin >> {work}/root/etc/passwd
for folder in {closed}; do chmod a+x {work}/root$folder; done
ip link set lo up
touch {ready}
cat > /dev/null
"""
"""First process. It creates the shared parts. When its standard input ends, it ends with all services."""


def skip_if_impossible() -> None:
    """Skip the test with the reason if the stack cannot run here. `make stack-test` checks the same first."""
    if problems := [*find_problems()]:
        pytest.skip("; ".join(problems))


_BEGIN = """set -eu
root={root}"""


class Sandbox:
    """Shared network and files, and the services started in them."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        skip_if_impossible()
        self.folder = folder
        self.work = folder / "machine"
        self.work.mkdir()
        ready = folder / "ready"
        places = "\n".join(_laid_over(self.work, place, source) for place, source in PLACES.items() if source.is_dir())
        script = FIRST.format(
            work=self.work,
            small=SMALL,
            names=" ".join(f"'127.0.1.{number} {name}'" for number, name in enumerate(names, 1)),
            closed=" ".join(_closed()),
            ready=ready,
            places=places,
        )
        self._first = subprocess.Popen(
            ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", script],
            stdin=subprocess.PIPE, stderr=(folder / "first.log").open("wb"),
        )  # fmt: skip
        wait_until(ready.exists, f"the namespaces are made; see {folder / 'first.log'}", 20)
        (first,) = psutil.Process(self._first.pid).children()
        self.pid = first.pid

    def end(self) -> None:
        assert self._first.stdin
        self._first.stdin.close()
        self._first.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, service: Service, command: list[str], output: IO[bytes], **more: str) -> subprocess.Popen[bytes]:
        """Start a command like a container of this service: with its account, files, environment and host name."""
        return self.start_as(service, service.image.user, command, output, **more)

    def start_as(
        self, service: Service, user: str, command: list[str], output: IO[bytes], **more: str
    ) -> subprocess.Popen[bytes]:
        inside = [
            "env",
            "-i",
            "-C",
            service.folder,
            *_assigned({**service.environment, "HOSTNAME": service.name, **more}),
        ]
        account, _, group = user.partition(":")
        account_options = ["setpriv", f"--reuid={account}", f"--regid={group or _group_of(account)}", *NO_RIGHTS]
        words = ["chroot", str(self.work / "root"), *(account_options if account != "root" else []), *inside, *command]
        script = "\n".join(
            [
                _BEGIN.format(root=self.work / "root"),
                f"hostname {service.name}",
                *self._mounts(service),
                f"exec {shlex.join(words)}",
            ]
        )
        return subprocess.Popen(
            ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid",
             "unshare", "--mount", "--uts", "sh", "-c", script],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/",
        )  # fmt: skip

    def volume(self, name: str) -> Path:
        """Return the path of a named volume on this machine."""
        return Path(f"/proc/{self.pid}/root{self.work}/volumes/{name}")

    def _mounts(self, service: Service) -> Iterator[str]:
        """Yield shell lines that mount the files of a service. The last ones make the root read-only."""
        root = self.work / "root"
        for entry in service.definition.get("tmpfs", []):
            place = entry.partition(":")[0]
            yield f"place={_at(place)}; mkdir -p $place; mount -t tmpfs -o mode=1777 none $place"
        for volume in service.definition.get("volumes", []):
            yield from self._volume(volume, service.image.user)
        if service.definition.get("read_only"):
            for place in ("", *(place for place, source in PLACES.items() if source.is_dir())):
                yield f"mount -o remount,bind,ro {root}{place}"

    def _volume(self, volume: dict[str, str], user: str) -> Iterator[str]:
        target = volume["target"]
        if volume["type"] == "bind":
            yield _bound(volume["source"], target, file=Path(volume["source"]).is_file(), read_only=True)
            return
        source = self.work / "volumes" / volume["source"]
        owner = user.partition(":")[0]
        # Locked, because the first health check can start at the same time as the service.
        make = f"[ -d {source} ] || {{ mkdir {source} && chown {owner} {source}; }}"
        yield f"flock {source.parent} sh -c {shlex.quote(make)}; {_bound(str(source), target)}"


def _laid_over(work: Path, place: str, source: Path) -> str:
    """Return shell lines that mount a folder of this machine in the root, with writes to a separate layer."""
    layer = f"{work}/over{place.replace('/', '-')}"
    layers = f"lowerdir={source},upperdir={layer}/upper,workdir={layer}/scratch"
    target = f"{work}/root{place}"
    return f"mkdir -p {layer}/upper {layer}/scratch {target}; mount -t overlay overlay -o {layers} {target}"


def _assigned(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def _bound(source: str, target: str, file: bool = False, read_only: bool = False) -> str:
    make = "mkdir -p $(dirname $place); touch $place" if file else "mkdir -p $place"
    lock = "; mount -o remount,bind,ro $place" if read_only else ""
    return f"place={_at(target)}; {make}; mount --bind {shlex.quote(source)} $place{lock}"


def _at(place: str) -> str:
    """Return a shell expression for a path of the service from outside, with symbolic links resolved inside."""
    return f"$root$(chroot $root realpath -m {shlex.quote(place)})"


def _group_of(account: str) -> str:
    import pwd

    return str(pwd.getpwnam(account).pw_gid)


def _closed() -> list[str]:
    """Return the parent folders of this Python and this repository that other accounts may not enter."""
    parents = [*Path(sys.base_prefix).resolve().parents, *ROOT.parents]
    return sorted({str(parent) for parent in parents if not parent.stat().st_mode & 0o001}) or ["/"]


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Move this thread into the network of another process. Sockets opened meanwhile belong to it."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as current, Path(f"/proc/{pid}/ns/net").open() as target:
        _enter(libc, target.fileno())
        try:
            yield
        finally:
            _enter(libc, current.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")
