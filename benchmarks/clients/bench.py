"""
The clients that are compared, and one run of one of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import rounds
from shared.peers import BENCHMARKS, CACHE
from shared.processes import Failed, Process
from shared.running import run_folder

from clients import peers
from clients.streams import Stream

_PROGRAMS = Path(__file__).with_name("programs")

# The longest that a run may take, in seconds. A client that lost an event waits for it until then.
_PATIENCE = 180


@dataclass(frozen=True)
class Contestant(rounds.Contestant):
    """
    A client.

    :ivar program: the program in ``programs/``; its arguments are the stream's URL, the number of events and
        their type.
    :ivar ways: further arguments.
    """

    program: str
    ways: tuple[str, ...] = ()

    @property
    def needs(self) -> str:
        """
        The set-up that it needs: ``node`` or ``python``.
        """
        return "node" if self.program.endswith(".mjs") else "python"

    def command(self, port: int, stream: Stream) -> list[str]:
        """
        Return its command line.
        """
        runs = "node" if self.needs == "node" else str(peers.PYTHON.python)
        url = f"http://127.0.0.1:{port}/events"
        return [runs, str(_PROGRAMS / self.program), url, str(stream.events), stream.type, *self.ways]


ALL = (
    Contestant("txsse", "txsse, callbacks", "with_txsse.py", ("callbacks",)),
    Contestant("txsse-iteration", "txsse, async for", "with_txsse.py", ("iteration",)),
    Contestant("httpx-sse", "httpx-sse", "with_httpx_sse.py", ("sync",)),
    Contestant("httpx-sse-async", "httpx-sse, async", "with_httpx_sse.py", ("async",)),
    Contestant("launchdarkly", "launchdarkly-eventsource", "with_launchdarkly.py", ("sync",)),
    Contestant("launchdarkly-async", "launchdarkly-eventsource, async", "with_launchdarkly.py", ("async",)),
    Contestant("aiohttp-sse-client2", "aiohttp-sse-client2", "with_aiohttp.py"),
    Contestant("sseclient-py", "sseclient-py", "with_sseclient.py"),
    Contestant("eventsource", "eventsource on Node", "with_eventsource.mjs"),
)


def run(contestant: Contestant, stream: Stream, cores: tuple[int, int]) -> dict[str, float]:
    """
    Run a client that reads a stream.

    :param cores: the server's core and the client's.
    :returns: the client's CPU per event, in seconds.
    :raises Failed: if it does not receive every event as it was sent.
    """
    with run_folder() as folder:
        server = Process(
            [sys.executable, "-m", "clients.server", stream.name, str(stream.events)],
            core=cores[0],
            folder=BENCHMARKS,
            errors=folder / "server.log",
        )
        try:
            assert server.popen.stdout is not None
            port = server.popen.stdout.readline()
            if not port:
                raise Failed(f"the server does not start: {server.complaint()}")
            answer = _answer(contestant.command(int(port), stream), cores[1], folder)
        finally:
            server.end()
    if answer["seen"] != stream.expected():
        raise Failed(f"it received {answer['seen']}, not {stream.expected()}")
    user, system = answer["user"] / stream.events, answer["system"] / stream.events
    return {"cpu": user + system, "user": user, "system": system}


def _answer(command: list[str], core: int, folder: Path) -> dict[str, Any]:
    client = Process(
        command,
        core=core,
        # Node searches for packages in its working directory.
        folder=peers.NODE.folder if peers.NODE.folder.exists() else CACHE,
        environment=peers.environment(),
        errors=folder / "client.log",
    )
    try:
        text, _ = client.popen.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        raise Failed(f"it has not received all events after {_PATIENCE} s") from None
    finally:
        client.end()
    if client.popen.returncode or not text:
        raise Failed(f"it exited with {client.popen.returncode}: {client.complaint()}")
    answer: dict[str, Any] = json.loads(text)
    return answer
