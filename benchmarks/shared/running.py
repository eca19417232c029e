"""
Running a server and a load generator, in a folder of their own.
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
    Have a folder for what a run writes. It is on the disk of the checkout: /tmp may be none.
    """
    with tempfile.TemporaryDirectory(prefix="run-", dir=CACHE) as name:
        yield Path(name)


def free_port() -> int:
    """
    Find a port that is free.
    """
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def redis_command(port: int, folder: Path, sync: str) -> list[str]:
    """
    Make the command line of a Redis, with all that it acknowledges on its disk.

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
    Start a load generator on a server, once it listens, and end both.

    :param command: the load generator's.
    :param core: the load generator's.
    :raises Failed: where one does not start, or dies, with what the server said.
    """
    load = None
    try:
        _wait_for(port, server)
        load = Load(command, core=core, folder=folder, errors=folder / "load.log")
        yield load
    except (OSError, Failed) as error:
        said = server.complaint()
        ended = "" if server.popen.poll() is None else f"; it ended with {server.popen.returncode}"
        raise Failed(f"{error}{ended}{f'; it said: {said}' if said else ''}") from error
    finally:
        # The server first: one that saw thousands of clients leave would work on that for long.
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
            # nginx listens before it has its worker.
            time.sleep(0.3)
            return
    raise Failed("it does not listen")
