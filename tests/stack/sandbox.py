"""What a container engine gives a process, made of Linux' own means: names, a network, read-only files, an account.

One network for all services, in which each of them is found under its name, and nothing else is; a root file system on
which nothing that is written reaches this machine; for each service its volumes, an account without rights, and no
environment but its own. Everything ends with the object: the processes live in a PID namespace, which ends with its
first.
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
from tests.stack.needs import missing
from tests.stack.services import Service
from tests.support.servers import wait_until

NO_RIGHTS = ["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
PLACES = {"/opt/venv": ROOT / ".venv", "/opt/airflow": ROOT / ".venv-airflow", "/srv/project": ROOT}
"""Where the images have what `make` and the repository hold here."""

SMALL = "mlflow-artifacts"
"""The volume that is a disk of its own, so small that a test can fill it."""

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
"""The first process: makes what the services share, and ends, with all of them, when its standard input does."""


def expect_possible() -> None:
    """Skip the test, saying why, where the stack cannot run; `make stack-test` says so before it begins."""
    if problems := [*missing()]:
        pytest.skip("; ".join(problems))


_BEGIN = """set -eu
root={root}"""


class Sandbox:
    """The shared part, and the services that were started in it."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        expect_possible()
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
        """Start a command as a container of this service would: its account, files, environment and name."""
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
        who = ["setpriv", f"--reuid={account}", f"--regid={group or _group_of(account)}", *NO_RIGHTS]
        words = ["chroot", str(self.work / "root"), *(who if account != "root" else []), *inside, *command]
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
        """Where a named volume lies, as seen from this machine."""
        return Path(f"/proc/{self.pid}/root{self.work}/volumes/{name}")

    def _mounts(self, service: Service) -> Iterator[str]:
        """The shell lines that lay out the files of a service; the last makes the rest read-only."""
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
        # one at a time: the first health check begins while the service itself does
        make = f"[ -d {source} ] || {{ mkdir {source} && chown {owner} {source}; }}"
        yield f"flock {source.parent} sh -c {shlex.quote(make)}; {_bound(str(source), target)}"


def _laid_over(work: Path, place: str, source: Path) -> str:
    """Show a folder of this machine at its place in the images, such that nothing that is written there reaches it."""
    own = f"{work}/over{place.replace('/', '-')}"
    layers = f"lowerdir={source},upperdir={own}/upper,workdir={own}/scratch"
    target = f"{work}/root{place}"
    return f"mkdir -p {own}/upper {own}/scratch {target}; mount -t overlay overlay -o {layers} {target}"


def _assigned(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in environment.items()]


def _bound(source: str, target: str, file: bool = False, read_only: bool = False) -> str:
    make = "mkdir -p $(dirname $place); touch $place" if file else "mkdir -p $place"
    lock = "; mount -o remount,bind,ro $place" if read_only else ""
    return f"place={_at(target)}; {make}; mount --bind {shlex.quote(source)} $place{lock}"


def _at(place: str) -> str:
    """Shell words for a path of the service as seen from outside, symbolic links resolved as the service would."""
    return f"$root$(chroot $root realpath -m {shlex.quote(place)})"


def _group_of(account: str) -> str:
    import pwd

    return str(pwd.getpwnam(account).pw_gid)


def _closed() -> list[str]:
    """Folders on the way to this Python and this repository that other accounts may not enter."""
    ways = [*Path(sys.base_prefix).resolve().parents, *ROOT.parents]
    return sorted({str(way) for way in ways if not way.stat().st_mode & 0o001}) or ["/"]


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Let this thread reach the network of another process: what it opens meanwhile is there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as own, Path(f"/proc/{pid}/ns/net").open() as other:
        _enter(libc, other.fileno())
        try:
            yield
        finally:
            _enter(libc, own.fileno())


def _enter(libc: ctypes.CDLL, namespace: int) -> None:
    if libc.setns(namespace, 0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "setns")
