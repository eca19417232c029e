"""
The service as a process, and those who use it over real sockets.
"""

from __future__ import annotations

import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from tests.mercure.world import PATH, SECRET
from tests.processes import TWIST, Program, python, start
from tests.waiting import PATIENCE, wait_until
from txsse import EventStreamParser, ServerSentEvent
from txsse.mercure.auth.mint import make_token

#: What clients take the hub for, whatever it listens on.
HUB_URL = f"http://hub.example{PATH}"


# Becomes a program that finds a socket where systemd puts one; the variable has to name the very process.
_HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Process:
    """
    A running service.

    :ivar urls: the URLs that it listens on, from its log.
    :ivar process: its process.
    """

    def __init__(self, program: Program, listens: int) -> None:
        self._program = program
        self.process = program.process
        self.urls = program.wait_for(r"Listening at (\S+)", listens)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> str:
        """
        Send a signal, wait for the end of the process, and return its log.
        """
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> str:
        """
        Wait for the end of the process, and return its log.
        """
        self._program.wait()
        assert "Traceback" not in self._program.output, self._program.output
        return self._program.output


@contextmanager
def running(
    *argv: str,
    listens: int = 1,
    environ: Mapping[str, str] | None = None,
    inherited: socket.socket | None = None,
    starter: Sequence[str] = (),
    twist: Sequence[str] = (),
) -> Iterator[Process]:
    """
    Run ``twist txsse``, and wait until it listens.

    :param listens: on how many endpoints.
    :param inherited: a socket that it is handed, as systemd does.
    :param starter: the program that becomes it, with its arguments.
    :param twist: options of ``twist`` itself.
    """
    command: list[str | Path] = [*starter, TWIST, "--log-format=text", *twist, "txsse", *argv]
    env = {"TXSSE_KEY": SECRET, **(environ or {})}
    pass_fds: list[int] = []
    if inherited is not None:
        command = python("-c", _HAND_OVER, str(inherited.fileno()), *command)
        env |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "hub"}
        pass_fds.append(inherited.fileno())
    with start(command, env=env, pass_fds=pass_fds) as program:
        yield Process(program, listens)


def token(**options: object) -> str:
    """
    Make a token that is good for the next minutes.
    """
    given: dict[str, object] = {"publish": ["*"], "subscribe": ["*"], **options}
    return make_token(SECRET, audience=HUB_URL, expires=time.time() + 600, **given)  # type: ignore[arg-type]


def publish(url: str, topic: str, data: str, **fields: str) -> str:
    """
    Publish, and return the id. What fails raises.
    """
    form = urlencode({"topic": topic, "data": data, **fields}).encode()
    headers = {"Authorization": f"Bearer {token()}"}
    request = urllib.request.Request(url, form, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def get(url: str) -> tuple[int, str]:
    """
    Fetch something small.
    """
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Subscriber:
    """
    A client that comes back with its last id, as browsers do, at once.

    :ivar events: what it got.
    :ivar visits: how often it was let in.
    """

    def __init__(self, url: str, topic: str = "news", last_event_id: str = "earliest") -> None:
        self.events: list[ServerSentEvent] = []
        self.visits = 0
        self.retry: float | None = None
        self._url = urlsplit(url)
        self._target = f"{self._url.path}?{urlencode({'match': topic})}"
        self._last_event_id = last_event_id

    def read_until(self, text: str) -> list[str]:
        """
        Read until some data have come, and return all.
        """

        def visit() -> list[str]:
            with suppress(OSError, HTTPException):
                self._visit(text)
            return self.texts

        return wait_until(visit, lambda texts: text in texts, f"the data {text!r} arrive")

    @property
    def texts(self) -> list[str]:
        return [event.data for event in self.events if event.event == "message"]

    def _visit(self, text: str) -> None:
        connection = HTTPConnection(self._url.netloc, timeout=PATIENCE)
        parser = EventStreamParser()
        try:
            headers = {"Authorization": f"Bearer {token()}", "Last-Event-ID": self._last_event_id}
            connection.request("GET", self._target, headers=headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            self.visits += 1
            while text not in self.texts and (data := response.read1()):
                self.events += parser.feed(data)
                self._last_event_id = parser.last_event_id or self._last_event_id
                self.retry = parser.retry if parser.retry is not None else self.retry
        finally:
            connection.close()
