"""
The service as systemd runs it: what the units of the documentation have it do is done by hand.
"""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.journal.redis_server import RedisServer
from tests.mercure.world import OTHER_SECRET, PATH, SECRET
from tests.processes import ROOT, TWIST, finish, free_port
from tests.service.process import HUB_URL, Process, Subscriber, get, publish, running
from tests.waiting import PATIENCE

FOLDER = ROOT / "docs" / "deployment"

# Behind its work, twist dies of the signal that it got; to systemd, SIGTERM is as good an end as 0.
END = -signal.SIGTERM


def read_unit(name: str) -> dict[str, list[str]]:
    """
    Read a unit: the values of each setting.
    """
    text = re.sub(r"\\\n\s*", "", (FOLDER / name).read_text(encoding="utf-8"))
    settings: dict[str, list[str]] = {}
    for setting, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        settings.setdefault(setting, []).append(value)
    return settings


class Notified:
    """
    Where a service manager is told how the service is.
    """

    def __init__(self, directory: Path) -> None:
        self.address = f"{directory}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def next(self, patience: float = PATIENCE) -> str:
        """
        Return what it is told next; ``""`` for nothing.
        """
        self._socket.settimeout(patience)
        try:
            return self._socket.recv(1000).decode()
        except TimeoutError:
            return ""

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[Notified]:
    with closing(Notified(tmp_path)) as notified:
        yield notified


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    """
    The arguments that the unit starts the program with, and what they name.
    """
    (tmp_path / "key").write_text(f"{SECRET}\n")
    toml = (FOLDER / "hub.toml").read_text(encoding="utf-8")
    for old, new in (
        ("https://hub.example.org/.well-known/mercure", HUB_URL),
        ("tcp:9090:", "tcp:0:"),
        ("/var/lib/txsse", f"{tmp_path}"),
    ):
        assert old in toml
        toml = toml.replace(old, new)
    (tmp_path / "hub.toml").write_text(toml)
    [line] = read_unit("txsse.service")["ExecStart"]
    for name in ("${CREDENTIALS_DIRECTORY}", "/etc/txsse"):
        assert name in line
        line = line.replace(name, f"{tmp_path}")
    program, *argv = shlex.split(line)
    assert (program, argv[:2]) == ("/opt/txsse/bin/twist", ["--log-format=text", "txsse"])
    return argv[2:]


@contextmanager
def start(argv: list[str], listening: socket.socket, notified: Notified) -> Iterator[Process]:
    """
    Start the service. Its key is in the file alone.
    """
    assert read_unit("txsse.socket")["FileDescriptorName"] == ["hub"]
    environ = {"NOTIFY_SOCKET": notified.address, "TXSSE_KEY": OTHER_SECRET}
    with running(*argv, listens=2, inherited=listening, environ=environ) as process:
        yield process


class UnitTests:
    def test_verified(self, tmp_path: Path) -> None:
        """
        They make sense to systemd.
        """
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("install Debian's package systemd")
        for name in ("txsse.service", "txsse.socket"):
            text = (FOLDER / name).read_text(encoding="utf-8")
            # It looks for the program.
            (tmp_path / name).write_text(text.replace("/opt/txsse/bin/twist", TWIST))
        done = finish([program, "verify", f"{tmp_path}/txsse.socket", f"{tmp_path}/txsse.service"])
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_time_to_drain(self) -> None:
        """
        It is not killed while it sends its clients away, which takes up to ``--shutdown-timeout`` and five
        seconds.
        """
        from txsse.service.config import Config

        [patience] = read_unit("txsse.service")["TimeoutStopSec"]
        assert int(patience) >= Config().shutdown_timeout + 5


class RunTests:
    def test_restart(self, argv: list[str], notified: Notified) -> None:
        """
        It says when it is ready and when it ends; the next one has the socket and what was published, and who
        connects between the two waits.
        """
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
            with start(argv, listening, notified) as first:
                assert notified.next() == "READY=1"
                publish(url, "news", "before")
                first.process.send_signal(signal.SIGTERM)
                assert notified.next() == "STOPPING=1"
                assert first.process.wait(PATIENCE) == END
            subscriber = Subscriber(url)
            reading = threading.Thread(target=subscriber.read_until, args=("after",))
            reading.start()
            with start(argv, listening, notified) as second:
                assert notified.next() == "READY=1"
                publish(url, "news", "after")
                reading.join(PATIENCE)
                second.stop()
        assert subscriber.texts == ["before", "after"]

    def test_socket_of_systemd(self, argv: list[str]) -> None:
        """
        It understands what systemd itself hands over. A client that comes before the service waits for it.
        """
        program = shutil.which("systemd-socket-activate")
        if program is None:
            pytest.skip("install Debian's package systemd")
        address = f"127.0.0.1:{free_port()}"
        # Of its own environment, it passes little on.
        kept = ["--setenv=PYTHONPATH", "--setenv=TXSSE_KEY"]
        starter = [program, f"--listen={address}", "--fdname=hub", *kept]
        url = f"http://{address}{PATH}"
        subscriber = Subscriber(url)
        reading = threading.Thread(target=subscriber.read_until, args=("after",))
        reading.start()
        with running(*argv, listens=2, starter=starter) as process:
            assert process.urls[1] == url
            publish(url, "news", "after")
            reading.join(PATIENCE)
            process.stop()
            assert process.process.returncode == END
        assert (subscriber.texts, subscriber.visits) == (["after"], 1)

    def test_journal_comes_late(self, notified: Notified, tmp_path: Path) -> None:
        """
        A service whose Redis comes later is ready then, though nobody asks anything of it.
        """
        redis = RedisServer(tmp_path)
        argv = ["--listen=tcp:0:interface=127.0.0.1", "--admin=tcp:0:interface=127.0.0.1"]
        environ = {"NOTIFY_SOCKET": notified.address}
        with running(
            *argv, f"--url={HUB_URL}", f"--journal={redis.url}", listens=2, environ=environ
        ) as process:
            assert notified.next(0.5) == ""
            assert get(process.urls[0])[0] == 503
            redis.start()
            try:
                assert notified.next() == "READY=1"
                assert get(process.urls[0]) == (200, "ok\n")
                process.stop()
            finally:
                redis.kill()

    def test_ends_before_its_journal(self, notified: Notified, tmp_path: Path) -> None:
        """
        It ends in order while it waits for its Redis.
        """
        redis = RedisServer(tmp_path)
        argv = ["--listen=tcp:0:interface=127.0.0.1", "--admin=tcp:0:interface=127.0.0.1"]
        environ = {"NOTIFY_SOCKET": notified.address}
        with running(
            *argv, f"--url={HUB_URL}", f"--journal={redis.url}", listens=2, environ=environ
        ) as process:
            # It was told to end before it could be, otherwise.
            assert get(process.urls[0])[0] == 503
            assert "Main loop terminated" in process.stop()
            assert process.process.returncode == END
        assert notified.next() == "STOPPING=1"
