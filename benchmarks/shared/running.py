"""
Run a server and a load generator in a temporary folder.
"""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from shared.answering import Load
from shared.peers import CACHE
from shared.processes import Failed, Process


@contextmanager
def run_folder() -> Iterator[Path]:
    """
    Create a folder for the files of a run. It is on the disk of the checkout, because /tmp may be in memory.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as name:
        yield Path(name)


def free_port() -> int:
    """
    Return a free port.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def redis_command(port: int, folder: Path, sync: str) -> list[str]:
    """
    Return the command line of a Redis that writes all updates to its disk.

    :param sync: its ``appendfsync``.
    """
    settings = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "appendonly": "yes",
        "appendfsync": sync,
        "logfile": folder / "redis.log",
    }
    return ["redis-server", *(str(each) for name, value in settings.items() for each in (f"--{name}", value))]


@contextmanager
def loaded(server: Process, port: int, command: Sequence[str], *, core: int, folder: Path) -> Iterator[Load]:
    """
    Wait until a server listens, start a load generator on it, and stop both at the end.

    :param command: the load generator's command line.
    :param core: the load generator's core.
    :raises Failed: if one does not start, or exits; with the last line of the server's stderr.
    """
    load = None
    try:
        _wait_for(port, server)
        load = Load(command, core=core, folder=folder, errors=folder / "load.log")
        yield load
    except (OSError, Failed) as error:
        complaint = server.complaint()
        ended = "" if server.popen.poll() is None else f"; it exited with {server.popen.returncode}"
        raise Failed(f"{error}{ended}{f'; its last line was: {complaint}' if complaint else ''}") from error
    finally:
        # Stop the server first: disconnecting thousands of clients would keep it busy.
        server.end()
        if load is not None:
            load.end()


def _wait_for(port: int, server: Process) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if server.popen.poll() is not None:
            raise Failed("it does not start")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            # nginx listens before it has started its worker.
            time.sleep(0.3)
            return
    raise Failed("it does not listen")
