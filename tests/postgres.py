"""A PostgreSQL of one's own on loopback, in a fresh folder, run by a user that is not root; the standard library alone.

`python tests/postgres.py COMMAND...` starts one, names it to the command by ALPHAPOINT_TEST_POSTGRES, and ends it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["VARIABLE", "NoPostgres", "Postgres", "running_postgres"]

VARIABLE = "ALPHAPOINT_TEST_POSTGRES"
"""Names a server for the tests, as libpq takes it: `postgresql://postgres@127.0.0.1:5432/postgres`."""

_DEBIAN = Path("/usr/lib/postgresql")  # Debian keeps the server's programs out of the path, a folder a version
_USERS = ("postgres", "nobody")  # who runs the server where root asks for it: PostgreSQL refuses to be run by root

_PORTS = range(15432, 16432)

# A server of tests that is lost with the machine loses nothing, and one that syncs each commit is many times slower.
_OPTIONS = {"fsync": "off", "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}


class NoPostgres(Exception):
    """There is no server, and none can be started here: one sentence that says why."""


class Postgres:
    """A server in a folder, which can be stopped and started again.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = _programs()
        self._folder = folder
        self._data = folder / "data"
        self._user = _other_user() if os.geteuid() == 0 else None
        if self._user is not None:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._port = _free_port()
        self._run("initdb", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "--locale=C")

    @property
    def url(self) -> str:
        """Where it is, for libpq."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = " ".join(f"-c {name}={value or chr(39) * 2}" for name, value in _OPTIONS.items())
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options} -p {self._port}")

    def stop(self) -> None:
        """End it at once, as a host that goes down does: whoever is connected is cut."""
        self._run("pg_ctl", "stop", "--mode=immediate", "--wait")

    @contextmanager
    def ended_with_this_process(self) -> Iterator[None]:
        """End the server after the block or with this process, however that ends: a test that hangs ends it at once."""
        words = 'read word; pg_ctl stop --mode=immediate --wait --pgdata=data; rm -r "$PWD"'
        with subprocess.Popen(
            ["/bin/sh", "-c", words],
            cwd=self._folder,
            env={**os.environ, "PATH": f"{self._programs}:{os.environ['PATH']}"},
            stdin=subprocess.PIPE,  # which closes with this process, and then there is no more to read
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for those who use the server
            **self._as_user(),
        ):
            yield

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, f"--pgdata={self._data}", *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a pipe would be held open by the server
            stderr=subprocess.PIPE if program == "initdb" else subprocess.DEVNULL,
            check=False,
            timeout=60,
            **self._as_user(),
        )
        if done.returncode:
            raise NoPostgres(
                f"{program} failed: {(done.stderr or b'').decode(errors='replace').strip() or 'see its log'}"
            )

    def _as_user(self) -> dict[str, Any]:
        user = self._user
        return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _programs() -> Path:
    found = shutil.which("initdb")
    if found is not None and shutil.which("pg_ctl") is not None:
        return Path(found).parent
    versions = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise NoPostgres("PostgreSQL is not installed: no initdb is on the path or under /usr/lib/postgresql")
    return versions[-1].parent


def _other_user() -> pwd.struct_passwd:
    for name in _USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgres(f"PostgreSQL refuses to be run by root, and there is none of the users {', '.join(_USERS)}")


def _free_port() -> int:
    # Not one that the system gives to whoever connects: while the server is down, a client that looks for it could get
    # that very port, and be connected with itself.
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as asked, contextlib.suppress(OSError):
            asked.bind(("127.0.0.1", port))
            return port
    raise NoPostgres(f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """Start a server, and end it; NoPostgres where that cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(folder)
        with server.ended_with_this_process():
            server.start()
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is ended, too
    try:
        with running_postgres() as server:
            return subprocess.run(sys.argv[1:], env={**os.environ, VARIABLE: server.url}, check=False).returncode
    except NoPostgres as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1


if __name__ == "__main__":
    sys.exit(main())
