"""
Tests of the service with the systemd units of the documentation; the test does what systemd would do.
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

# After its shutdown, twist kills itself with the signal that it received; systemd treats SIGTERM as a clean
# exit.
END = -signal.SIGTERM


def read_unit(name: str) -> dict[str, list[str]]:
    """
    Read a systemd unit; return the values of each setting.
    """
    text = re.sub(r"\\\n\s*", "", (FOLDER / name).read_text(encoding="utf-8"))
    settings: dict[str, list[str]] = {}
    for setting, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        settings.setdefault(setting, []).append(value)
    return settings


class Notified:
    """
    The socket of a service manager that the service notifies.
    """

    def __init__(self, directory: Path) -> None:
        self.address = f"{directory}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def next(self, patience: float = PATIENCE) -> str:
        """
        Return the next notification; ``""`` if none arrives.
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
    Return the arguments of the unit's command, with its paths replaced by temporary ones.
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
    Start the service with its key in a file only.
    """
    assert read_unit("txsse.socket")["FileDescriptorName"] == ["hub"]
    environ = {"NOTIFY_SOCKET": notified.address, "TXSSE_KEY": OTHER_SECRET}
    with running(*argv, listens=2, inherited=listening, environ=environ) as process:
        yield process


class UnitTests:
    @pytest.mark.process
    def test_units_are_valid(self, tmp_path: Path) -> None:
        """
        systemd-analyze accepts the units of the documentation.
        """
        program = shutil.which("systemd-analyze")
        if program is None:
            pytest.skip("install Debian's package systemd")
        for name in ("txsse.service", "txsse.socket"):
            text = (FOLDER / name).read_text(encoding="utf-8")
            # systemd-analyze checks that the program exists.
            (tmp_path / name).write_text(text.replace("/opt/txsse/bin/twist", TWIST))
        done = finish([program, "verify", f"{tmp_path}/txsse.socket", f"{tmp_path}/txsse.service"])
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    def test_time_to_drain(self) -> None:
        """
        TimeoutStopSec of the unit is long enough to drain clients: --shutdown-timeout and five seconds.
        """
        from txsse.service.config import Config

        [patience] = read_unit("txsse.service")["TimeoutStopSec"]
        assert int(patience) >= Config().shutdown_timeout + 5


@pytest.mark.process
class RunTests:
    def test_restart(self, argv: list[str], notified: Notified) -> None:
        """
        The service notifies systemd when it is ready and when it stops; the next process uses the same socket
        and journal, and clients that connect in between wait.
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
        The service listens on a socket passed by systemd-socket-activate, and a client that connects before
        it starts waits.
        """
        program = shutil.which("systemd-socket-activate")
        if program is None:
            pytest.skip("install Debian's package systemd")
        address = f"127.0.0.1:{free_port()}"
        # systemd-socket-activate passes only few variables of its environment.
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

    @pytest.mark.redis
    def test_journal_starts_late(self, notified: Notified, tmp_path: Path) -> None:
        """
        A service whose Redis starts later becomes ready then, without any request.
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

    def test_stopped_before_its_journal_starts(self, notified: Notified, tmp_path: Path) -> None:
        """
        A service that waits for its Redis stops cleanly.
        """
        redis = RedisServer(tmp_path)
        argv = ["--listen=tcp:0:interface=127.0.0.1", "--admin=tcp:0:interface=127.0.0.1"]
        environ = {"NOTIFY_SOCKET": notified.address}
        with running(
            *argv, f"--url={HUB_URL}", f"--journal={redis.url}", listens=2, environ=environ
        ) as process:
            # Otherwise the signal may arrive before the service can handle it.
            assert get(process.urls[0])[0] == 503
            assert "Main loop terminated" in process.stop()
            assert process.process.returncode == END
        assert notified.next() == "STOPPING=1"
