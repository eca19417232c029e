"""
A hub as a service of twistd, in the foreground and as a daemon, on each kind of endpoint.
"""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.processes import ROOT, TWIST, Program, finish, python, start
from tests.waiting import PATIENCE, wait_until
from txsse import EventStreamParser, ServerSentEvent

pytestmark = pytest.mark.process

TWISTD = str(Path(TWIST).parent / "twistd")

# A service with the topic "news", a stream of a handler, and a page that publishes.
TAC = """
import os
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from txsse import Hub, HubService, ServerSentEvent, SSEResource
from txsse.journal.sqlite import SQLiteJournal
from txsse.web import BoundedSite

async def handler(channel):
    channel.send(str(getattr(channel.request.client, "host", "local")))
    try:
        await Deferred()
    finally:
        await deferLater(reactor, 0.1)
        channel.send("bye")

class Publish(Resource):
    isLeaf = True

    def render_GET(self, request):
        hub.publish("news", request.args[b"data"][0])
        return b"published"

hub = Hub(journal=SQLiteJournal(os.environ["JOURNAL"]))
root = Resource()
root.putChild(b"news", hub.resource("news"))
root.putChild(b"handler", SSEResource(handler))
root.putChild(b"idle", SSEResource(lambda channel: channel.send("hello")))
root.putChild(b"publish", Publish())
site = BoundedSite(root, reactor=reactor)
application = Application("test")
HubService(
    hub,
    site,
    os.environ["LISTEN"].split(),
    farewell=ServerSentEvent("back soon", event="restart"),
).setServiceParent(application)
"""

# Executes a program with a socket at the descriptor that systemd uses; LISTEN_PID must be its process ID.
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""

TCP = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def tac(tmp_path: Path) -> Path:
    path = tmp_path / "test.tac"
    path.write_text(TAC)
    return path


@contextmanager
def twistd(tac: Path, listen: str = TCP, inherited: socket.socket | None = None) -> Iterator[Program]:
    """
    Run a service in the foreground.

    :param inherited: a listening socket to pass to it, as systemd does.
    """
    argv: list[str | Path] = [TWISTD, "-n", "--pidfile=", "-y", tac]
    env = {"LISTEN": listen, "JOURNAL": str(tac.parent / "journal.sqlite")}
    fds = []
    if inherited is not None:
        argv = python("-c", HAND_OVER, str(inherited.fileno()), *argv)
        env |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "hub"}
        fds = [inherited.fileno()]
    with start(argv, env=env, pass_fds=fds, cwd=tac.parent) as program:
        yield program


def port_of(program: Program) -> int:
    """
    Return the port that a service listens on.
    """
    return int(program.wait_for(r"Listening at https?://127\.0\.0\.1:([0-9]+)/$")[0])


def dial(where: int | Path) -> socket.socket:
    """
    Connect to a port, or to a UNIX socket.
    """
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), PATIENCE)
    dialled = socket.socket(socket.AF_UNIX)
    dialled.settimeout(PATIENCE)
    dialled.connect(str(where))
    return dialled


class Stream:
    """
    A stream that is read to its end, over a connection of HTTP/1.1.
    """

    def __init__(self, connection: socket.socket, path: str, *, prefix: bytes = b"") -> None:
        self._connection = connection
        self._received = b""
        connection.sendall(prefix + f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.read_until(b"\r\n\r\n")
        assert self._received.startswith(b"HTTP/1.1 200 "), self._received

    def read_until(self, text: bytes) -> None:
        """
        Read until a text has arrived.
        """
        while text not in self._received:
            data = self._connection.recv(65536)
            assert data, self._received
            self._received += data

    def read_all(self) -> list[ServerSentEvent]:
        """
        Read until the server closes the connection, and return the events; the response must be complete.
        """
        while data := self._connection.recv(65536):
            self._received += data
        self._connection.close()
        body = self._received.partition(b"\r\n\r\n")[2]
        assert body.endswith(b"\r\n0\r\n\r\n"), self._received
        parser = EventStreamParser()
        events: list[ServerSentEvent] = []
        while body:
            size, _, body = body.partition(b"\r\n")
            events += parser.feed(body[: int(size, 16)])
            body = body[int(size, 16) + 2 :]
        self.retry = parser.retry
        return events


def publish(connection: socket.socket, text: str, prefix: bytes = b"") -> None:
    """
    Publish an update.
    """
    with connection:
        connection.sendall(prefix + f"GET /publish?data={text} HTTP/1.0\r\n\r\n".encode())
        assert b" 200 OK" in connection.recv(65536)


def texts(events: list[ServerSentEvent]) -> list[str]:
    return [event.data for event in events if event.event in (None, "", "message") and event.data]


def check_stop(program: Program) -> None:
    """
    Stop a service; it must end by itself, and log no failure.
    """
    program.stop()
    assert "Traceback" not in program.output, program.output
    assert "Stopped: all streams have ended" in program.output


class ForegroundTests:
    def test_streams_end_properly(self, tac: Path) -> None:
        """
        On SIGTERM, a subscriber gets the updates, the farewell and a reconnection delay, a handler sends its
        last event, a stream without a handler ends, an idle connection is closed, and the log counts the
        streams.
        """
        with twistd(tac) as program:
            port = port_of(program)
            streams = {path: Stream(dial(port), path) for path in ("/news", "/handler", "/idle")}
            idle = dial(port)
            idle.sendall(b"GET /publish?data=one HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b" 200 OK" in idle.recv(65536)
            streams["/news"].read_until(b"one")
            check_stop(program)
            news = streams["/news"].read_all()
            assert texts(news) == ["one"]
            assert [event.data for event in news if event.event == "restart"] == ["back soon"]
            assert streams["/news"].retry is not None and 1 <= streams["/news"].retry <= 10
            assert texts(streams["/handler"].read_all()) == ["127.0.0.1", "bye"]
            assert texts(streams["/idle"].read_all()) == ["hello"]
            with idle:
                assert idle.recv(1) == b""
            assert "Stopping: 3 streams are open" in program.output

    def test_port_in_use(self, tac: Path) -> None:
        """
        A port in use ends twistd, with one line in the log that says what to do; other endpoints are closed.
        """
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            path = tac.parent / "socket"
            env = {"LISTEN": f"unix:{path} tcp:{port}:interface=127.0.0.1", "JOURNAL": f"{tac.parent}/j"}
            done = finish([TWISTD, "-n", "--pidfile=", "-y", tac], env=env, cwd=tac.parent)
        assert done.returncode == 1
        line = f"cannot listen on 'tcp:{port}:interface=127.0.0.1': it is in use; stop the process"
        assert line in done.stdout
        assert f"ListenFailed: {line}" in done.stdout

    def test_tls(self, tac: Path, certificate: Path) -> None:
        """
        The service listens with TLS, and announces an https URL.
        """
        with twistd(tac, f"ssl:0:interface=127.0.0.1:privateKey={certificate}") as program:
            port = port_of(program)
            assert f"https://127.0.0.1:{port}/" in program.output
            context = ssl.create_default_context(cafile=str(certificate))
            stream = Stream(context.wrap_socket(dial(port), server_hostname="127.0.0.1"), "/handler")
            stream.read_until(b"127.0.0.1")
            check_stop(program)
            assert texts(stream.read_all()) == ["127.0.0.1", "bye"]

    def test_unix(self, tac: Path) -> None:
        """
        The service listens on a UNIX socket, and deletes it at the end.
        """
        path = tac.parent / "socket"
        with twistd(tac, f"unix:{path}") as program:
            program.wait_for(r"Listening at (unix:\S+)$")
            streams = [Stream(dial(path), name) for name in ("/handler", "/news")]
            check_stop(program)
            assert texts(streams[0].read_all()) == ["local", "bye"]
            streams[1].read_all()
        assert not path.exists()

    @pytest.mark.parametrize("kind", ["tcp", "unix"])
    def test_proxy_protocol(self, tac: Path, kind: str) -> None:
        """
        Behind a proxy that sends the PROXY protocol, the address of a stream's client is the client's own.
        """
        path = tac.parent / "socket"
        listen = f"haproxy:{TCP}" if kind == "tcp" else f"haproxy:unix:{path}"
        with twistd(tac, listen) as program:
            where: Any = path
            if kind == "tcp":
                where = port_of(program)
            else:
                program.wait_for(r"Listening at (haproxy:unix:\S+)$")
            header = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"
            streams = [Stream(dial(where), name, prefix=header) for name in ("/handler", "/news", "/idle")]
            streams[0].read_until(b"203.0.113.9")
            publish(dial(where), "one", header)
            streams[1].read_until(b"one")
            check_stop(program)
            assert texts(streams[0].read_all()) == ["203.0.113.9", "bye"]
            assert texts(streams[1].read_all()) == ["one"]
            assert texts(streams[2].read_all()) == ["hello"]

    def test_socket_of_systemd(self, tac: Path) -> None:
        """
        The service listens on a TCP socket of systemd, which the next process uses again.
        """
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            port = listening.getsockname()[1]
            for text in ("one", "two"):
                with twistd(tac, "systemd:domain=INET:index=0", listening) as program:
                    assert port_of(program) == port
                    stream = Stream(dial(port), "/news")
                    publish(dial(port), text)
                    stream.read_until(text.encode())
                    check_stop(program)
                    assert texts(stream.read_all()) == [text]

    def test_unix_socket_of_systemd(self, tac: Path) -> None:
        """
        A UNIX socket of systemd keeps its file and its mode, so that clients find the next process.
        """
        path = tac.parent / "socket"
        with closing(socket.socket(socket.AF_UNIX)) as listening:
            listening.bind(str(path))
            listening.listen()
            path.chmod(0o660)
            for text in ("one", "two"):
                with twistd(tac, "systemd:domain=UNIX:index=0", listening) as program:
                    program.wait_for(r"Listening at (systemd:\S+)$")
                    assert stat.S_IMODE(path.stat().st_mode) == 0o660
                    stream = Stream(dial(path), "/news")
                    publish(dial(path), text)
                    stream.read_until(text.encode())
                    check_stop(program)
                    assert texts(stream.read_all()) == [text]


class Daemon:
    """
    A service of a twistd that has daemonised.

    :ivar pid: its process ID.
    """

    def __init__(self, tac: Path, log: Path, pid_file: Path) -> None:
        self.pid = int(pid_file.read_text())
        self._log = log

    @property
    def log(self) -> str:
        """
        The text of its log file.
        """
        return self._log.read_text() if self._log.exists() else ""

    def port(self) -> int:
        """
        Return the port that it listens on.
        """
        found = wait_until(
            lambda: [line for line in self.log.splitlines() if "Listening at" in line], what="it listens"
        )
        return int(found[0].rstrip("/").rpartition(":")[2])

    @property
    def is_running(self) -> bool:
        """
        Whether its process runs.
        """
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        # A process that ended may wait for a parent that reads its status: the one of a container may not.
        with suppress(OSError):
            return ") Z " not in Path(f"/proc/{self.pid}/stat").read_text()
        return True

    def stop(self) -> str:
        """
        Send SIGTERM, wait until the process has ended, and return its log.
        """
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not self.is_running, what="the daemon ends")
        assert "Traceback" not in self.log, self.log
        return self.log


@contextmanager
def daemon(
    tac: Path, env: Mapping[str, str], inherited: socket.socket | None = None, name: str = "daemon"
) -> Iterator[Daemon]:
    """
    Run twistd as a daemon. At the end of the block it is killed.
    """
    log, pid_file = tac.parent / f"{name}.log", tac.parent / f"{name}.pid"
    argv: list[str | Path] = [TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "-y", tac]
    fds: list[int] = []
    if inherited is not None:
        argv = python("-c", HAND_OVER, str(inherited.fileno()), *argv)
        env = {**env, "LISTEN_FDS": "1", "LISTEN_FDNAMES": "hub"}
        fds = [inherited.fileno()]
    with start(argv, env=env, cwd=tac.parent, pass_fds=fds) as program:
        status = program.wait()
        assert status == 0, program.output + (log.read_text() if log.exists() else "")
    running = Daemon(tac, log, pid_file)
    try:
        yield running
    finally:
        if running.is_running:
            os.kill(running.pid, signal.SIGKILL)


class DaemonTests:
    @pytest.mark.parametrize("endpoint", [TCP, "systemd:domain=INET:index=0"])
    def test_daemon(self, tac: Path, endpoint: str) -> None:
        """
        A twistd that daemonises after the service was made serves streams, records updates in SQLite, and
        drains on SIGTERM; the next one replays the updates.
        """
        env = {"LISTEN": endpoint, "JOURNAL": f"{tac.parent}/journal.sqlite"}
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            inherited = listening if endpoint.startswith("systemd") else None
            with daemon(tac, env, inherited, "first") as first:
                port = first.port()
                streams = [Stream(dial(port), path) for path in ("/news", "/handler")]
                publish(dial(port), "one")
                streams[0].read_until(b"one")
                log = first.stop()
                assert "Stopping: 2 streams are open" in log and "Stopped: all streams" in log
                events = streams[0].read_all()
                assert texts(events) == ["one"]
                assert [event.data for event in events if event.event == "restart"] == ["back soon"]
                assert texts(streams[1].read_all()) == ["127.0.0.1", "bye"]
                assert not (tac.parent / "first.pid").exists()
            with daemon(tac, env, inherited, "second") as second:
                stream = Stream(dial(second.port()), "/news?lastEventId=earliest")
                stream.read_until(b"one")
                second.stop()

    def test_port_in_use(self, tac: Path) -> None:
        """
        If the port is in use, twistd reports that to the shell, the log says what to do, and no PID file is
        left.
        """
        log, pid_file = tac.parent / "log", tac.parent / "pid"
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            port = taken.getsockname()[1]
            done = finish(
                [TWISTD, f"--pidfile={pid_file}", f"--logfile={log}", "-y", tac],
                env={"LISTEN": f"tcp:{port}:interface=127.0.0.1", "JOURNAL": f"{tac.parent}/j"},
                cwd=tac.parent,
            )
        assert done.returncode == 1
        assert f"ListenFailed: cannot listen on 'tcp:{port}" in done.stderr
        # The shell learns of the failure before the daemon has ended.
        wait_until(lambda: not pid_file.exists())
        advice = "it is in use; stop the process that listens there, or choose another endpoint"
        assert advice in log.read_text()


class ExampleTests:
    def test_news(self, tmp_path: Path) -> None:
        """
        The example news.tac publishes the time every second, and sends a farewell when it stops.
        """
        env = {"NEWS_LISTEN": TCP, "NEWS_JOURNAL": f"{tmp_path}/news.sqlite"}
        argv: list[str | Path] = [TWISTD, "-n", "--pidfile=", "-y", ROOT / "examples" / "news.tac"]
        with start(argv, env=env, cwd=tmp_path) as program:
            stream = Stream(dial(port_of(program)), "/events?lastEventId=earliest")
            stream.read_until(b"data: ")
            check_stop(program)
            events = stream.read_all()
        assert texts(events)
        assert events[-1].event == "restart" or events[-2].event == "restart"
