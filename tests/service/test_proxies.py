"""
Tests of the service behind nginx, HAProxy and Caddy, each with its file from the documentation, over HTTP/2
with TLS.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.journal.redis_server import RedisServer
from tests.processes import free_port
from tests.service.process import HUB_URL, get, token
from tests.service.proxies import HOSTS, KINDS, METADATA, Front, channels, node, program, proxy
from tests.waiting import PATIENCE, wait_until
from txsse import EventStreamParser

pytestmark = [pytest.mark.process, pytest.mark.proxy]

httpx = pytest.importorskip("httpx", reason="pip install httpx")


class Reader:
    """
    A subscriber that reconnects when it loses its stream.

    :ivar texts: what it got.
    :ivar protocols: what it spoke, each time that it was let in.
    :ivar comments: how many comments came.
    """

    def __init__(self, front: Front, last_event_id: str = "earliest", *, http2: bool = True) -> None:
        self.texts: list[str] = []
        self.protocols: list[str] = []
        self.comments = 0
        self.statuses: set[int] = set()
        self._front = front
        self._http2 = http2
        self._last_event_id = last_event_id
        self._left = ExitStack()
        self._chunks: Iterator[bytes] | None = None
        self._parser = EventStreamParser()

    def read_until(self, enough: Callable[[], object]) -> None:
        """
        Read until a condition is true, reconnecting as often as needed.
        """

        def read() -> object:
            if not enough():
                try:
                    self.read()
                except httpx.HTTPError:
                    self.leave()
            return enough()

        wait_until(read, what=lambda: f"enough was read: {self.texts[-5:]}, {self.statuses}")

    def read(self) -> bool:
        """
        Read once; return whether the stream continues.
        """
        chunk = next(self._chunks or self.come(), None)
        if chunk is None:
            self.leave()
            return False
        self.comments += len(re.findall(rb"^:", chunk, re.MULTILINE))
        self.texts += [event.data for event in self._parser.feed(chunk) if event.event == "message"]
        self._last_event_id = self._parser.last_event_id or self._last_event_id
        return True

    def come(self) -> Iterator[bytes]:
        """
        Open the stream.
        """
        client = self._left.enter_context(self._front.client(http2=self._http2))
        headers = {"Authorization": f"Bearer {token()}", "Last-Event-ID": self._last_event_id}
        asked = client.stream("GET", self._front.url, params={"match": "news"}, headers=headers)
        response = self._left.enter_context(asked)
        self.statuses.add(response.status_code)
        if response.status_code == 200:
            assert response.headers["Content-Type"] == "text/event-stream"
            self.protocols.append(response.http_version)
        self._parser = EventStreamParser()
        self._chunks = response.iter_raw() if response.status_code == 200 else iter(())
        return self._chunks

    def leave(self) -> None:
        """
        Disconnect.
        """
        self._left.close()
        self._chunks = None


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    program(request.param)
    return str(request.param)


@pytest.fixture
def start(kind: str, tmp_path: Path, certificate: Path) -> Iterator[Callable[..., Front]]:
    """
    Yield a function that starts a proxy for nodes.
    """
    with ExitStack() as left:

        def start(*urls: str, status: int, timeout: str = "60s", name: str = kind) -> Front:
            return left.enter_context(proxy(name, tmp_path, certificate, urls, status, timeout))

        yield start


class OneNodeTests:
    def test_events_are_forwarded_at_once(self, start: Callable[..., Front]) -> None:
        """
        A proxy forwards each event at once, to subscribers over HTTP/2 and over HTTP/1.1.
        """
        status = free_port()
        with node(status) as process:
            front = start(process.urls[1], status=status)
            wait_until(lambda: front.publish("first").status_code == 200)
            for http2 in (True, False):
                reader = Reader(front, http2=http2)
                for number in range(5):
                    answer = front.publish(f"{http2} {number}")
                    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                    assert answer.text.startswith("urn:uuid:")
                    reader.read_until(lambda last=f"{http2} {number}", reader=reader: last in reader.texts)  # type: ignore[misc]
                assert reader.protocols == ["HTTP/2" if http2 else "HTTP/1.1"]
                reader.leave()

    def test_stream_outlives_the_read_timeout(self, start: Callable[..., Front]) -> None:
        """
        The hub's comments keep a stream without events open for longer than the proxy's read timeout.
        """
        status = free_port()
        with node(status, "--keepalive=1s") as process:
            front = start(process.urls[1], status=status, timeout="3s")
            reader = Reader(front)
            reader.read_until(lambda: reader.comments >= 6)
            front.publish("late")
            reader.read_until(lambda: reader.texts)
            assert reader.protocols == ["HTTP/2"]
            reader.leave()

    def test_silent_node(self, start: Callable[..., Front]) -> None:
        """
        A proxy closes the stream of a silent node, and the subscriber reconnects.
        """
        status = free_port()
        with node(status, "--keepalive=off") as process:
            front = start(process.urls[1], status=status, timeout="1s")
            reader = Reader(front)
            reader.read_until(lambda: len(reader.protocols) == 2)
            reader.leave()

    def test_client_disconnects(self, start: Callable[..., Front]) -> None:
        """
        When a client disconnects from the proxy, the hub's stream ends, even without events.
        """
        status = free_port()
        with node(status, "--keepalive=off") as process:
            front = start(process.urls[1], status=status)
            for http2 in (True, False):
                wait_until(lambda: front.publish("x").status_code == 200)
                reader = Reader(front, http2=http2)
                reader.read_until(lambda reader=reader: reader.texts)  # type: ignore[misc]
                assert channels(process) == 1
                reader.leave()
                wait_until(lambda: channels(process) == 0)

    def test_forwarded_paths(self, start: Callable[..., Front]) -> None:
        """
        A proxy forwards the hub's paths and its error responses, but no other paths and no health checks.
        """
        status = free_port()
        with node(status, "--subscriptions") as process:
            front = start(process.urls[1], status=status)
            wait_until(lambda: front.publish("x").status_code == 200)
            with front.client() as client:
                known = client.get(front.origin + METADATA)
                assert known.status_code == 200 and known.json()["resource"] == HUB_URL
                listed = client.get(
                    f"{front.url}/subscriptions", headers={"Authorization": f"Bearer {token()}"}
                )
                assert listed.status_code == 200, listed.text
                refused = client.get(front.url, params={"match": "news"})
                assert refused.status_code == 401 and "Bearer" in refused.headers["WWW-Authenticate"]
                for path in ("/", "/health/ready", "/metrics"):
                    assert client.get(front.origin + path).status_code == 404

    def test_no_available_node(self, start: Callable[..., Front]) -> None:
        """
        Without an available node, a browser gets a stream that makes it reconnect, and a publisher gets an
        error.
        """
        status = free_port()
        with node(status) as process:
            front = start(process.urls[1], status=status)
            wait_until(lambda: front.publish("x").status_code == 200)
            process.stop()
            with front.client() as client:
                for _ in range(3):
                    answer = client.get(front.url, params={"match": "news"})
                    assert (answer.status_code, answer.text) == (200, "retry: 2000\n\n")
                    assert answer.headers["Content-Type"] == "text/event-stream"
                    assert client.post(front.url, data={"topic": "news"}).status_code in (502, 503)


class TwoNodesTests:
    def test_node_is_killed(self, kind: str, start: Callable[..., Front], shared_redis: RedisServer) -> None:
        """
        When one of two nodes is killed during publications, the subscriber resumes at the other; no update is
        lost or sent twice.
        """
        status = free_port()
        # Each proxy has its own database, so that no test sees the updates of another.
        journal = f"--journal={shared_redis.url}/{10 + list(KINDS).index(kind)}"
        with ExitStack() as nodes:
            both = [nodes.enter_context(node(status, journal, host=host)) for host in HOSTS]
            front = start(*(each.urls[1] for each in both), status=status)
            wait_until(lambda: front.publish("first").status_code == 200)
            published: list[str] = []
            over = threading.Event()
            publishing = threading.Thread(target=_publish_on, args=(front, published, over))
            publishing.start()
            try:
                reader = Reader(front)
                reader.read_until(lambda: len(reader.texts) > 20)
                killed = next(each for each in both if channels(each))
                killed.process.send_signal(signal.SIGKILL)
                killed.process.wait(PATIENCE)
                seen = len(reader.texts)
                reader.read_until(lambda: len(reader.texts) > seen + 20)
            finally:
                over.set()
                publishing.join(PATIENCE)
            published.append("last")
            wait_until(partial(_publish, front, "last"))
            reader.read_until(lambda: "last" in reader.texts)
            reader.leave()
        assert len(reader.protocols) > 1
        assert reader.statuses == {200}
        assert reader.texts[reader.texts.index("first") + 1 :] == published

    # Active health checks of nginx need its commercial edition.
    @pytest.mark.redis
    @pytest.mark.parametrize("kind", ["haproxy", "caddy"], indirect=True)
    def test_node_is_not_ready(self, start: Callable[..., Front], tmp_path: Path) -> None:
        """
        A proxy with health checks sends no requests to a node that is not ready, and uses it when it is.
        """
        status = free_port()
        redis = RedisServer(tmp_path)
        redis.start()
        try:
            with node(status, f"--journal={redis.url}") as process:
                front = start(process.urls[1], status=status)
                wait_until(lambda: front.publish("before").status_code == 200)
                reader = Reader(front)
                reader.read_until(lambda: reader.texts)
                redis.kill()
                wait_until(lambda: get(process.urls[0])[0] == 503)
                with front.client() as client:
                    asked = {"match": "news"}
                    wait_until(lambda: "retry: 2000" in client.get(front.url, params=asked).text)
                assert channels(process) == 1
                redis.start()
                wait_until(lambda: front.publish("after").status_code == 200)
                reader.read_until(lambda: "after" in reader.texts)
                assert reader.texts == ["before", "after"]
                assert len(reader.protocols) == 1
                reader.leave()
        finally:
            redis.kill()


def _publish_on(front: Front, published: list[str], over: threading.Event) -> None:
    """
    Publish numbered updates, each again with its ID until it is acknowledged.
    """
    while not over.is_set():
        text = str(len(published))
        wait_until(partial(_publish, front, text))
        published.append(text)


def _publish(front: Front, text: str) -> bool:
    """
    Publish with an ID, so that retries are safe; return whether the publication was acknowledged.
    """
    with suppress(httpx.HTTPError):
        return bool(front.publish(text, f"urn:x:{text}").status_code == 200)
    return False
