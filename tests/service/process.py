"""
Runs the service as a process, with publishers and subscribers over real sockets.
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

#: The hub's ``--url``, which does not depend on its endpoints.
HUB_URL = f"http://hub.example{PATH}"


# Executes a program with a socket at the descriptor that systemd uses; LISTEN_PID must be its process ID.
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

    :param listens: the number of its endpoints.
    :param inherited: a listening socket to pass to it, as systemd does.
    :param starter: a command that executes it.
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
    Make a token that is valid for ten minutes.
    """
    given: dict[str, object] = {"publish": ["*"], "subscribe": ["*"], **options}
    return make_token(SECRET, audience=HUB_URL, expires=time.time() + 600, **given)  # type: ignore[arg-type]


def publish(url: str, topic: str, data: str, **fields: str) -> str:
    """
    Publish an update, and return its ID; raise if the publication fails.
    """
    form = urlencode({"topic": topic, "data": data, **fields}).encode()
    headers = {"Authorization": f"Bearer {token()}"}
    request = urllib.request.Request(url, form, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


def get(url: str) -> tuple[int, str]:
    """
    Return the status and the body of a GET.
    """
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


class Subscriber:
    """
    A client that reconnects with its last event ID, as browsers do, but without a delay.

    :ivar events: the events that it received.
    :ivar visits: how many times it opened the stream.
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
        Read until a message with this text has arrived, and return the texts of all messages.
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
