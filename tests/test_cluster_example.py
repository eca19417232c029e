"""
The example with two nodes behind nginx, run as a user runs it, and its programs killed one after the other.
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

# Of each program that may be killed: its name, its pid, and what brings it back.
SAID = re.compile(r"(.+): kill -9 (\d+)\n  and to restart it: (.+)\n")


def example(*ports: str, **environment: str) -> AbstractContextManager[Program]:
    """
    Run the example.
    """
    return start(python("examples/cluster/run.py", *ports), env=environment, needs="proxy")


def fail(*ports: str, **environment: str) -> str:
    """
    Run the example where it cannot start, and return its output.
    """
    with example(*ports, **environment) as program:
        assert program.wait() == 1
        return program.output


class Cluster:
    """
    The example, running.

    :param program: what started it.
    :ivar url: where nginx is.
    :ivar pids: those of the programs that may be killed.
    """

    def __init__(self, program: Program) -> None:
        self._program = program
        self._revived: list[Program] = []
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
        What was said so far.
        """
        return "".join(program.output for program in (self._program, *self._revived))

    def kill(self, name: str) -> None:
        """
        Kill a program as was said, and wait until that is noticed.
        """
        os.kill(self.pids[name], signal.SIGKILL)
        wait_until(lambda: f"\n{name} has exited.\n" in self.said, what=f"the end of {name}")

    def revive(self, name: str) -> None:
        """
        Have a program back as was said.
        """
        self._revived.append(self._exit.enter_context(start(self._commands[name], needs="proxy")))

    def publish(self, text: str, id: str = "") -> Answer:
        """
        Publish by way of nginx.
        """
        return fetch(self.url, "/publish", "POST", urlencode({"text": text, "id": id}), **FORM)

    def publish_until_certain(self, text: str, id: str) -> None:
        """
        Publish again and again, with the same id, until it is certain that it arrived.
        """
        wait_until(lambda: self.publish(text, id).status == 200, what=f"{text} to be published")

    def end(self, number: int = signal.SIGTERM) -> None:
        """
        End it, and see that nothing is left.
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
        End the processes that are left: those of the example through it, since it alone knows them all.
        """
        # A node before its Redis.
        for program in reversed(self._revived):
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
    Skip the test where something is missing.
    """
    # Debian's nginx is where only root looks.
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
    The example, for a test that kills.
    """
    with running() as cluster:
        yield cluster


@pytest.fixture(scope="class")
@needs("proxy")
def shared() -> Iterator[Cluster]:
    """
    The example, for all tests of a class.
    """
    with running() as cluster:
        yield cluster


class Reader:
    """
    A subscriber, by way of nginx.

    :param last: what it saw last; ``earliest`` for all that there is, and nothing for what comes from now on.
    :ivar node: where it is.
    :ivar last: what it has seen last.
    """

    def __init__(self, cluster: Cluster, last: str = "") -> None:
        self.last = last
        self._stream = Stream(cluster.url, "/events", **({"Last-Event-ID": last} if last else {}))
        self._events = self._read()
        # Before anything else it is told where it is.
        [(event, told)] = self.take(1)
        self.node = f"Node {self._stream.headers['X-Node']}"
        assert (event, f"Node {told['node']}") == ("node", self.node)

    def take(self, number: int) -> list[tuple[str, Any]]:
        """
        Read so many events, whatever they are.
        """
        return [(event.event or "message", json.loads(event.data)) for event in islice(self._events, number)]

    def messages(self, number: int | None = None) -> list[str]:
        """
        Read so many messages; or all until the stream is cut off.
        """
        texts: list[str] = []
        deadline = time.monotonic() + PATIENCE
        while len(texts) != number:
            assert time.monotonic() < deadline, f"waited in vain for {number} messages; there are {texts}"
            event = next(self._events, None)
            if event is None:
                assert number is None, f"the stream has ended behind {texts}"
                break
            assert event.event in ("message", "subscribers"), event
            if event.event == "message":
                texts.append(json.loads(event.data)["text"])
                self.last = event.id or ""
        return texts

    def wait_for(self, **told: object) -> None:
        """
        Read until the page is told this.
        """
        wait_until(lambda: self.take(1)[0][1] == told, what=str(told))

    def close(self) -> None:
        """
        Go away.
        """
        self._stream.close()

    def _read(self) -> Iterator[ServerSentEvent]:
        # How it comes to an end where a node is killed: without one, or not at all.
        with suppress(HTTPException, ConnectionError):
            yield from self._stream


@pytest.fixture
def read(cluster: Cluster) -> Iterator[Callable[..., Reader]]:
    """
    Subscribe, and go away behind the test.
    """
    with ExitStack() as readers:
        yield lambda last="": readers.enter_context(closing(Reader(cluster, last)))


class FileTests:
    def test_length(self) -> None:
        """
        A node is short enough to be read at a glance.
        """
        assert len((FOLDER / "node.py").read_text(encoding="utf-8").splitlines()) <= 60

    @pytest.mark.parametrize("name", ["node.py", "run.py", "page.html", "nginx.conf"])
    def test_first_lines(self, name: str) -> None:
        """
        The first lines say how to run it.
        """
        first = (FOLDER / name).read_text(encoding="utf-8").splitlines()[:2]
        assert any("examples/cluster/" in line for line in first)

    def test_page(self) -> None:
        """
        The page works in the dark and loads nothing from elsewhere.
        """
        page = (FOLDER / "page.html").read_text(encoding="utf-8")
        assert "color-scheme" in page
        assert set(re.findall(r"https?://[^/]*", page)) == {"http://127.0.0.1:8080"}


@pytest.mark.proxy
class StartTests:
    @pytest.fixture(autouse=True)
    def needs(self) -> None:
        """
        Skip where the example cannot run.
        """
        skip_unless_installed()

    def test_program_missing(self) -> None:
        """
        Without Redis it says what to install.
        """
        assert fail("0", PATH="/nowhere") == (
            "redis-server was not found: install Debian's package redis-server.\n"
        )

    def test_package_missing(self, tmp_path: Path) -> None:
        """
        So it does without a package.
        """
        (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['hiredis'] = None\n")
        assert 'lacks hiredis: pip install "txsse[redis]"\n' in fail("0", PYTHONPATH=f"{tmp_path}:{ROOT}")

    def test_port(self) -> None:
        """
        A port that cannot be had is named before anything is started.
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
        One for all of them.
        """
        return shared

    @pytest.mark.proxy
    def test_both_nodes(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        Readers are at both nodes, and see whatever is published at either, once and in the same order.
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
        An event waits neither for the next one nor for nginx's buffer.
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
        Pages of other sites cannot publish, and strange requests do no harm.
        """
        assert fetch(cluster.url, "/publish", "POST", form, **FORM, **headers).status == status


@pytest.mark.proxy
class KillTests:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_end(self, cluster: Cluster, number: int) -> None:
        """
        Ctrl-C ends all of it, with pages that read, and so does SIGTERM.
        """
        with closing(Reader(cluster)):
            cluster.end(number)

    def test_node_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        Whoever was at a node that is killed goes on at the other one, where nothing is missing and nothing
        comes twice; the others notice nothing.
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
        So it is in the midst of publishing, where who is not sure whether it arrived publishes again.
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

    def test_node_back(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        A node that is back is found by nginx, gets those who come, and has what was published meanwhile.
        """
        stays = read()
        gone = "Node two" if stays.node == "Node one" else "Node one"
        cluster.kill(gone)
        cluster.publish("meanwhile")
        cluster.revive(gone)
        wait_until(lambda: read("earliest").node == gone, what=f"{gone} to be back")
        back = read("earliest")
        cluster.publish("later")
        assert back.messages(2) == stays.messages(2) == ["meanwhile", "later"]

    def test_redis_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        While Redis is out, nothing can be published, and that is said; readers stay, others come, and all get
        what is published when it is back.
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
            assert answer.body.startswith(b"Nothing can be published at the moment (redis://")
        came = read("earliest")
        cluster.revive("Redis")
        cluster.publish_until_certain("after", "after")
        assert [reader.messages(1) for reader in readers] == [["after"]] * 2
        assert came.messages(2) == ["before", "after"]

    def test_both_killed(self, cluster: Cluster, read: Callable[..., Reader]) -> None:
        """
        Where no node is there, a browser gets a stream that has it come back, and not an answer after which
        it would give up.
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
