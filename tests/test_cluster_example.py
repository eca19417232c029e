"""
The example with two nodes behind nginx, run as a user runs it; the tests kill and restart its programs.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.needs import needs
from tests.processes import ROOT, Program, python, start
from tests.test_examples import FORM, Answer, Stream, fetch
from tests.waiting import PATIENCE, wait_until
from txsse import ServerSentEvent

FOLDER = ROOT / "examples" / "cluster"

# For each program that the example lets a user kill: its name, its pid, and the command that restarts it.
SAID = re.compile(r"(.+): kill -9 (\d+)\n  and to restart it: (.+)\n")


def example(*ports: str, **environment: str) -> AbstractContextManager[Program]:
    """
    Run the example.
    """
    return start(python("examples/cluster/run.py", *ports), env=environment, needs="proxy")


def fail(*ports: str, **environment: str) -> str:
    """
    Run the example with arguments or variables with which it cannot start, and return its output.
    """
    with example(*ports, **environment) as program:
        assert program.wait() == 1
        return program.output


class Cluster:
    """
    The example while it runs.

    :param program: the process that runs it.
    :ivar url: the URL of nginx.
    :ivar pids: the process ids of the programs that a user may kill.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._restarted: list[Program] = []
        self._exit = ExitStack()
        program.wait_for("^(Open) http")
        opened = re.search(r"^Open (http://127\.0\.0\.1:\d+/)$", self.said, re.MULTILINE)
        assert opened is not None, self.said
        self.url = urlsplit(opened[1])
        found = SAID.findall(self.said)
        self.pids = {name: int(pid) for name, pid, _ in found}
        self._commands = {name: shlex.split(command) for name, _, command in found}
        assert list(self.pids) == ["Redis", "Node one", "Node two"]

    @property
    def said(self) -> str:
        """
        The output of the example and of the restarted programs so far.
        """
        return "".join(program.output for program in (self._program, *self._restarted))

    def kill(self, name: str) -> None:
        """
        Kill a program with the signal that the output names, and wait until the example reports its exit.
        """
        os.kill(self.pids[name], signal.SIGKILL)
        wait_until(lambda: f"\n{name} has exited.\n" in self.said, what=f"{name} exits")

    def revive(self, name: str) -> None:
        """
        Restart a program with the command that the output names.
        """
        self._restarted.append(self._exit.enter_context(start(self._commands[name], needs="proxy")))

    def publish(self, text: str, id: str = "") -> Answer:
        """
        Publish through nginx.
        """
        return fetch(self.url, "/publish", "POST", urlencode({"text": text, "id": id}), **FORM)

    def publish_until_certain(self, text: str, id: str) -> None:
        """
        Publish again and again with the same id, until the publication is acknowledged.
        """
        wait_until(lambda: self.publish(text, id).status == 200, what=f"{text} is published")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """
        Stop the example, and check that no process, file or port is left.
        """
        code = self._program.stop(number)
        self.clear()
        said = self.said
        assert code == 0, said
        assert "Traceback" not in said and "Unhandled" not in said, said
        assert not [name for name, pid in self.pids.items() if Path(f"/proc/{pid}").exists()]
        redis = self._commands["Redis"]
        assert not Path(redis[redis.index("--dir") + 1]).exists()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((self.url.hostname, self.url.port), timeout=PATIENCE)

    def clear(self) -> None:
        """
        Stop all processes that are left: those of the example by stopping it, since only it knows them all.
        """
        # Nodes before their Redis.
        for program in reversed(self._restarted):
            program.stop()
        self._exit.close()
        self._program.stop()


@contextmanager
def running() -> Iterator[Cluster]:
    """
    Run the example on free ports.
    """
    skip_unless_installed()
    with example("0") as program:
        cluster = Cluster(program)
        try:
            yield cluster
            cluster.end()
        finally:
            cluster.clear()


def skip_unless_installed() -> None:
    """
    Skip the test if a program or a package is missing.
    """
    # Debian installs nginx into /usr/sbin, which only root's PATH has.
    path = f"{os.environ['PATH']}:/usr/sbin"
    for program in ("redis-server", "nginx"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"install Debian's package {program}")
    for package in ("txredisapi", "hiredis"):
        pytest.importorskip(package, reason="pip install txsse[redis]")


@pytest.fixture
@needs("proxy")
def cluster() -> Iterator[Cluster]:
    """
    Run the example for a test that kills its programs.
    """
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="class")
@needs("proxy")
def shared() -> Iterator[Cluster]:
    """
    Run the example once for all tests of a class.
    """
    with running() as cluster:
        yield cluster


class Reader:
    """
    A subscriber that connects through nginx.

    :param last: the last event ID; ``earliest`` for all updates, and empty for updates from now on.
    :ivar node: the node that it is connected to.
    :ivar last: the id of the last message that it received.
    """

    def __init__(self, cluster: Cluster, last: str = "") -> None:
        self.last = last
        self._stream = Stream(cluster.url, "/events", **({"Last-Event-ID": last} if last else {}))
        self._events = self._read()
        # The first event names the node.
        [(event, content)] = self.take(1)
        self.node = f"Node {self._stream.headers['X-Node']}"
        assert (event, f"Node {content['node']}") == ("node", self.node)

    def take(self, number: int) -> list[tuple[str, Any]]:
        """
        Read this many events of any type.
        """
        return [(event.event or "message", json.loads(event.data)) for event in islice(self._events, number)]

    def messages(self, number: int | None = None) -> list[str]:
        """
        Read this many messages; without a number, all messages until the connection is lost.
        """
        texts: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while len(texts) != number:
            assert time.monotonic() < deadline, f"timed out waiting for {number} messages; received {texts}"
            event = next(self._events, None)
            if event is None:
                assert number is None, f"the stream has ended after {texts}"
                break
            assert event.event in ("message", "subscribers"), event
            if event.event == "message":
                texts.append(json.loads(event.data)["text"])
                self.last = event.id or ""
        return texts

    def wait_for(self, **content: object) -> None:
        """
        Read until an event has exactly this content.
        """
        wait_until(lambda: self.take(1)[0][1] == content, what=str(content))

    def close(self) -> None:
        """
        Disconnect.
        """
        self._stream.close()

    def _read(self) -> Iterator[ServerSentEvent]:
        # A node that is killed ends the stream with or without an error, depending on what was in transit.
        with suppress(HTTPException, ConnectionError):
            yield from self._stream


@pytest.fixture
def read(cluster: Cluster) -> Iterator[Callable[..., Reader]]:
    """
    Return a function that subscribes; after the test its subscribers disconnect.
    """
    with ExitStack() as readers:
        yield lambda last="": readers.enter_context(closing(Reader(cluster, last)))


class FileTests:
    def test_length(self) -> None:
        """
        The cluster example's node has at most 64 lines.
        """
        assert len((FOLDER / "node.py").read_text(encoding="utf-8").splitlines()) <= 64

    @pytest.mark.parametrize("name", ["node.py", "run.py", "page.html", "nginx.conf"])
    def test_first_lines(self, name: str) -> None:
        """
        The first two lines of each file of the cluster example say how to run it.
        """
        first = (FOLDER / name).read_text(encoding="utf-8").splitlines()[:2]
        assert any("examples/cluster/" in line for line in first)

    def test_page(self) -> None:
        """
        The cluster example's page supports a dark colour scheme and loads nothing from other hosts.
        """
        page = (FOLDER / "page.html").read_text(encoding="utf-8")
        assert "color-scheme" in page
        assert set(re.findall(r"https?://[^/]*", page)) == {"http://127.0.0.1:8080"}


@pytest.mark.proxy
class StartTests:
    @pytest.fixture(autouse=True)
    def needs(self) -> None:
        """
        Skip the test if the example cannot run here.
        """
        skip_unless_installed()

    def test_program_missing(self) -> None:
        """
        The cluster example exits with the package to install if redis-server is missing.
        """
        assert fail("0", PATH="/nowhere") == (
            "redis-server was not found: install Debian's package redis-server.\n"
        )

    def test_package_missing(self, tmp_path: Path) -> None:
        """
        The cluster example exits with the extra to install if hiredis is missing.
        """
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['hiredis'] = None\n")
        assert 'lacks hiredis: pip install "txsse[redis]"\n' in fail("0", PYTHONPATH=f"{tmp_path}:{ROOT}")

    def test_port(self) -> None:
        """
        The cluster example exits with a message if a port is in use or invalid, before it starts any program.
        """
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert fail(port).startswith(f"Port {port} is not available (")
        for port in ("http", "65536", "-1"):
            assert fail("0", port).startswith(f"{port} is not a port.")
        assert fail(*"00000").startswith("Give at most four ports")


class ClusterTests:
    @pytest.fixture
    def cluster(self, shared: Cluster) -> Cluster:
        """
        One cluster for all tests of the class.
        """
        return shared

    @pytest.mark.proxy
    def test_both_nodes(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        Subscribers at both nodes get the updates that are published at either, once and in the same order.
        """
        readers = [read() for _ in range(4)]
        assert sorted(reader.node for reader in readers) == ["Node one", "Node one", "Node two", "Node two"]
        for reader in readers:
            reader.wait_for(subscribers=4)
        texts = [f"Grüße {number} 👋" for number in range(20)]
        answers = [cluster.publish(text) for text in texts]
        assert {answer.status for answer in answers} == {200}
        for reader in readers:
            assert reader.messages(20) == texts
            assert reader.last == answers[-1].body.decode()
        late = read("earliest")
        assert late.messages(20) == texts

    def test_at_once(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        A node and nginx deliver each event at once, without waiting for a full buffer.
        """
        readers = [read(), read()]
        took = []
        for number in range(20):
            begun = time.monotonic()
            cluster.publish(str(number))
            assert [reader.messages(1) for reader in readers] == [[str(number)]] * 2
            took.append(time.monotonic() - begun)
        assert sorted(took)[10] < 0.5

    @pytest.mark.parametrize(
        ("form", "headers", "status"),
        [
            ("text=x", {"Sec-Fetch-Site": "same-origin"}, 200),
            ("text=x", {"Sec-Fetch-Site": "cross-site"}, 403),
            ("text=x", {"Sec-Fetch-Site": "same-site"}, 403),
            ("text=%FF&id=%ED%A0%80", {}, 200),
            ("", {}, 200),
            ("text=x&id=a%0Ab", {}, 400),
        ],
    )
    def test_request(self, cluster: Cluster, form: str, headers: dict[str, str], status: int) -> None:
        """
        The cluster example refuses updates that are published by pages of other sites, and survives malformed
        forms.
        """
        assert fetch(cluster.url, "/publish", "POST", form, **FORM, **headers).status == status


@pytest.mark.proxy
class KillTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_end(self, cluster: Cluster, number: signal.Signals) -> None:
        """
        SIGINT and SIGTERM stop the whole cluster example, even while pages are connected.
        """
        with closing(Reader(cluster)):
            cluster.end(number)

    def test_node_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        Subscribers of a killed node resume at the other node, without a loss or a duplicate; the subscribers
        of that node are not affected.
        """
        victim, other = read(), read()
        assert victim.node != other.node
        for number in range(5):
            cluster.publish(str(number))
        assert victim.messages(5) == ["0", "1", "2", "3", "4"]
        cluster.kill(victim.node)
        assert victim.messages() == []
        for number in range(5, 10):
            assert cluster.publish(str(number)).status == 200
        back = read(victim.last)
        assert back.node == other.node
        cluster.publish("10")
        assert back.messages(6) == ["5", "6", "7", "8", "9", "10"]
        assert other.messages(11) == [str(number) for number in range(11)]

    def test_killed_while_publishing(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        A publisher that repeats unacknowledged updates with their ids, while a node is killed, causes no loss
        and no duplicate.
        """
        texts = [str(number) for number in range(300)]
        victim, other = read(), read()

        def publish() -> None:
            for text in texts:
                cluster.publish_until_certain(text, f"id-{text}")

        publisher = Thread(target=publish, daemon=True)
        publisher.start()
        seen = victim.messages(50)
        cluster.kill(victim.node)
        seen += victim.messages()
        back = read(victim.last)
        seen += back.messages(300 - len(seen))
        assert seen == texts
        assert other.messages(300) == texts
        publisher.join(PATIENCE)
        assert not publisher.is_alive()

    def test_node_restarted(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        A restarted node is found by nginx, gets new subscribers, and has the updates that were published
        meanwhile.
        """
        survivor = read()
        killed = "Node two" if survivor.node == "Node one" else "Node one"
        cluster.kill(killed)
        cluster.publish("meanwhile")
        cluster.revive(killed)
        wait_until(lambda: read("earliest").node == killed, what=f"{killed} gets new subscribers")
        back = read("earliest")
        cluster.publish("later")
        assert back.messages(2) == survivor.messages(2) == ["meanwhile", "later"]

    def test_redis_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        While Redis is unavailable, publishers get an error, subscribers stay connected and new ones connect;
        afterwards all get new updates.
        """
        readers = [read(), read()]
        cluster.publish("before")
        assert [reader.messages(1) for reader in readers] == [["before"]] * 2
        cluster.kill("Redis")
        for reader in readers:
            reader.wait_for(subscribers=None)
        answers = [cluster.publish("lost") for _ in range(4)]
        assert {answer.status for answer in answers} == {503}
        assert {answer.content_type for answer in answers} == {"text/plain; charset=utf-8"}
        for answer in answers:
            assert answer.body.startswith(b"Not published: redis://")
        new = read("earliest")
        cluster.revive("Redis")
        cluster.publish_until_certain("after", "after")
        assert [reader.messages(1) for reader in readers] == [["after"]] * 2
        assert new.messages(2) == ["before", "after"]

    def test_both_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        While both nodes are unavailable, browsers get a stream from nginx that makes them reconnect, and not
        an error after which they would give up.
        """
        cluster.publish("before")
        reader = read("earliest")
        assert reader.messages(1) == ["before"]
        cluster.kill("Node one")
        cluster.kill("Node two")
        for _ in range(3):
            answer = fetch(cluster.url, "/events")
            assert answer == (200, "text/event-stream", b"retry: 2000\n\n")
            assert cluster.publish("lost").status == 502
        cluster.revive("Node two")
        cluster.publish_until_certain("after", "after")
        assert read(reader.last).messages(1) == ["after"]
