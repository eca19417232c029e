"""
Tests of the service on a system whose time is set while it runs.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import pytest

from tests.mercure.world import SECRET
from tests.service import process as process_module
from tests.service.process import HUB_URL, Subscriber, publish, running
from tests.waiting import PATIENCE
from txsse.mercure.auth.mint import make_token

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
URL = f"--url={HUB_URL}"

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(LIBRARY is None, reason="needs libfaketime (Debian's package libfaketime)"),
]


class SystemTime:
    """
    The time of day that a process sees; its monotonic clocks are those of the system.

    :ivar environ: what the process needs in its environment.
    """

    def __init__(self, path: Path) -> None:
        self._file = path / "faketime"
        self._ahead = 0
        self.step(0)
        self.environ = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """
        Set the time of day.
        """
        self._ahead += seconds
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._ahead:+}\n")
        os.replace(new, self._file)

    def now(self) -> float:
        return time.time() + self._ahead

    def token(self, lifetime: float = 600.0) -> str:
        return make_token(
            SECRET, audience=HUB_URL, expires=self.now() + lifetime, publish=["*"], subscribe=["*"]
        )


class Stream:
    """
    A client with an open stream.
    """

    def __init__(self, url: str, token: str, *, buffer: int | None = None) -> None:
        parts = urlsplit(url)
        self._connection = HTTPConnection(parts.netloc, timeout=PATIENCE)
        if buffer is not None:
            made = socket.socket()
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            made.settimeout(PATIENCE)
            made.connect((parts.hostname, parts.port))
            self._connection.sock = made
        headers = {"Authorization": f"Bearer {token}"}
        self._connection.request("GET", f"{parts.path}?match=news", headers=headers)
        self._response = self._connection.getresponse()
        self.status = self._response.status

    def read_comments(self, count: int) -> None:
        """
        Read this number of comments.
        """
        while count > 0:
            data = self._response.read1()
            assert data, "the stream has ended"
            count -= data.count(b":\n")

    def read_to_the_end(self) -> None:
        while self._response.read1():
            pass

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemTime:
    made = SystemTime(tmp_path)
    # Tokens that the helpers make are valid by the service's time.
    monkeypatch.setattr(process_module, "token", made.token)
    return made


@pytest.mark.parametrize("reactor", ["epoll", "asyncio"])
@pytest.mark.parametrize("step", [-3600, 3600])
def test_system_time_is_set(reactor: str, step: int, system: SystemTime, tmp_path: Path) -> None:
    """
    After the system's time is set, keep-alives continue, an unfinished request and a client that does not
    read time out, tokens expire by the new time, subscribers resume, and the access log has the new date.
    """
    log = tmp_path / "access.log"
    options = [
        LISTEN,
        URL,
        f"--journal=sqlite:{tmp_path}/hub.sqlite",
        f"--access-log={log}",
        "--keepalive=1",
        "--request-timeout=2",
        "--shutdown-timeout=2",
    ]
    with running(*options, environ=system.environ, twist=[f"--reactor={reactor}"]) as process:
        [url] = process.urls
        first = publish(url, "news", "before")
        earlier = system.token()
        stream = Stream(url, system.token(100_000))
        stuck = Stream(url, system.token(100_000), buffer=4096)
        stream.read_comments(1)
        waiting = _half_a_request(url)
        system.step(step)
        later = _half_a_request(url)
        expires = int(system.now() + 3)
        expiring = Stream(url, system.token(3))
        stream.read_comments(3)
        for half in (waiting, later):
            _wait_until_it_is_cut(half)
        expiring.read_to_the_end()
        assert system.now() >= expires
        publish(url, "news", "after")
        assert Subscriber(url, last_event_id=first).read_until("after") == ["after"]
        assert Subscriber(url).read_until("after") == ["before", "after"]
        assert _status(url, earlier) == (200 if step < 0 else 401)
        assert _status(url, system.token(-1)) == 401
        for number in range(16):
            publish(url, "news", f"{number}" + "x" * 500_000)
        stopped = process.stop()
        for each in (stream, stuck, expiring):
            each.close()
    assert "did not read everything in time" in stopped
    dates = [line.partition("[")[2].partition("]")[0] for line in log.read_text().splitlines()]
    times = [datetime.strptime(date, "%d/%b/%Y:%H:%M:%S %z").timestamp() for date in dates]
    # The calls of libfaketime in several threads share a variable: about one in a thousand returns the
    # system's own time. So the median of the sixteen last lines counts, not the last.
    assert abs(median(times[-16:]) - times[0] - step) < 1800


@pytest.mark.parametrize("step", [-3600, 3600])
def test_system_time_is_set_between_two_processes(step: int, system: SystemTime, tmp_path: Path) -> None:
    """
    If the system's time is set between two processes, the second continues after the last recorded update,
    and clients resume.
    """
    options = [LISTEN, URL, f"--journal=sqlite:{tmp_path}/hub.sqlite"]
    with running(*options, environ=system.environ) as process:
        first = publish(process.urls[0], "news", "1")
        publish(process.urls[0], "news", "2")
        process.stop()
    system.step(step)
    with running(*options, environ=system.environ) as process:
        publish(process.urls[0], "news", "3")
        assert Subscriber(process.urls[0], last_event_id=first).read_until("3") == ["2", "3"]
        process.stop()


def _half_a_request(url: str) -> socket.socket:
    parts = urlsplit(url)
    made = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)
    made.sendall(b"GET / HTTP/1.1\r\nHost:")
    return made


def _wait_until_it_is_cut(connection: socket.socket) -> None:
    with connection, suppress(ConnectionResetError):
        assert connection.recv(1000) == b""


def _status(url: str, token: str) -> int:
    stream = Stream(url, token)
    stream.close()
    return stream.status
