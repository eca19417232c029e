"""
Tests of the service as a process.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.journal.redis_server import RedisServer
from tests.mercure.world import PATH, SECRET
from tests.processes import TWIST, finish, free_port
from tests.service.process import HUB_URL, Process, Subscriber, get, publish, running, token
from tests.waiting import PATIENCE, wait_until

pytestmark = pytest.mark.process

LISTEN = "--listen=tcp:0:interface=127.0.0.1"
URL = f"--url={HUB_URL}"


class HubTests:
    @pytest.mark.parametrize("journal", ["memory", "sqlite", "redis"])
    def test_published_and_read(self, journal: str, tmp_path: Path, shared_redis: RedisServer) -> None:
        """
        With every journal, an update published over HTTP reaches a subscriber, and the process stops cleanly.
        """
        name = {
            "memory": "memory:",
            "sqlite": f"sqlite:{tmp_path}/hub.sqlite",
            "redis": f"{shared_redis.url}/8",
        }[journal]
        with running(LISTEN, URL, f"--journal={name}") as process:
            [url] = process.urls
            assert url.endswith(PATH)
            ids = [publish(url, "news", text) for text in ("one", "two")]
            assert all(id.startswith("urn:uuid:") for id in ids)
            assert Subscriber(url).read_until("two")[-2:] == ["one", "two"]
            log = process.stop()
        assert f"Accepted audience of tokens: {HUB_URL}" in log
        assert "Main loop terminated" in log

    def test_clients_without_a_token(self) -> None:
        """
        By default, clients without a token can neither subscribe nor publish.
        """
        with running(LISTEN, URL) as process:
            [url] = process.urls
            assert get(f"{url}?match=news")[0] == 401
            with pytest.raises(urllib.error.HTTPError) as raised:
                urllib.request.urlopen(url, b"topic=news", timeout=PATIENCE)
            with raised.value:
                assert raised.value.code == 401
            assert get(url.removesuffix(PATH) + "/")[0] == 404

    def test_two_nodes(self, shared_redis: RedisServer) -> None:
        """
        Two processes with the same Redis are one hub: a subscriber resumes at the other node.
        """
        journal = f"--journal={shared_redis.url}/9"
        with running(LISTEN, URL, journal) as one, running(LISTEN, URL, journal) as other:
            publish(one.urls[0], "news", "1")
            last = publish(other.urls[0], "news", "2")
            publish(one.urls[0], "news", "3")
            for process in (one, other):
                assert Subscriber(process.urls[0]).read_until("3") == ["1", "2", "3"]
                assert Subscriber(process.urls[0], last_event_id=last).read_until("3") == ["3"]

    def test_subscriptions_of_two_nodes(self, shared_redis: RedisServer) -> None:
        """
        Each of two nodes lists the subscriptions of both; when one stops, the other publishes their end and
        removes them.
        """
        options = [LISTEN, URL, f"--journal={shared_redis.url}/6", "--subscriptions"]
        with running(*options) as one, running(*options) as other:
            readers = [Subscriber(process.urls[0]) for process in (one, one, other)]
            reading = [threading.Thread(target=_read_to_the_end, args=(reader,)) for reader in readers]
            for each in reading:
                each.start()
            wait_until(lambda: len(_list(one.urls[0])) == 3)
            assert _list(other.urls[0]) == _list(one.urls[0])
            one.stop()
            assert len(_list(other.urls[0])) == 1
            publish(other.urls[0], "news", "x")
            watcher = Subscriber(other.urls[0], "*")
            watcher.read_until("x")
            changes = [json.loads(event.data) for event in watcher.events if event.event == "mercure"]
            ended = [each["subscriber"] for each in changes if not each["active"]]
            assert len(ended) == len(set(ended)) == 2
            other.stop()
            for each in reading:
                each.join(PATIENCE)

    def test_config_file(self, tmp_path: Path) -> None:
        """
        All options can be set in a file.
        """
        file = tmp_path / "hub.toml"
        file.write_text(
            f'listen = ["tcp:0:interface=127.0.0.1"]\nurl = "{HUB_URL}"\nanonymous = true\ndebugger = true\n'
        )
        with running(environ={"TXSSE_CONFIG": str(file)}) as process:
            [url] = process.urls
            publish(url, "news", "x")
            assert Subscriber(url).read_until("x") == ["x"]
            status, page = get(url.removesuffix(PATH) + "/")
            assert status == 200 and "<title>" in page

    def test_access_log(self, tmp_path: Path) -> None:
        """
        The access log has a line for each request, including streams whose clients disconnected, and no
        tokens.
        """
        log = tmp_path / "access.log"
        with running(LISTEN, URL, f"--access-log={log}") as process:
            [url] = process.urls
            publish(url, "news", "x")
            Subscriber(url).read_until("x")
            wait_until(lambda: log.read_text().count("\n") >= 2, what="two lines in the access log")
        text = log.read_text()
        assert f'"POST {PATH} HTTP/1.1" 200' in text
        assert f'"GET {PATH}?match=news HTTP/1.1" 200' in text
        assert "eyJ" not in text

    def test_access_log_of_open_streams_at_shutdown(self, tmp_path: Path) -> None:
        """
        Streams that are open when the service stops are in the access log.
        """
        log = tmp_path / "access.log"
        with running(LISTEN, URL, f"--access-log={log}") as process:
            [url] = process.urls
            headers = {"Authorization": f"Bearer {token()}"}
            with urllib.request.urlopen(urllib.request.Request(f"{url}?match=news", headers=headers)):
                process.stop()
        assert log.read_text().count(f'"GET {PATH}?match=news HTTP/1.1" 200') == 1


class StatusTests:
    def test_health_and_metrics(self) -> None:
        """
        Health checks and metrics have their own endpoint.
        """
        with running(LISTEN, URL, "--admin=tcp:0:interface=127.0.0.1", listens=2) as process:
            ready, hub = process.urls
            assert ready.endswith("/health/ready")
            publish(hub, "news", "x")
            assert get(ready) == (200, "ok\n")
            assert get(ready.replace("ready", "live")) == (200, "ok\n")
            status, metrics = get(ready.replace("health/ready", "metrics"))
            assert status == 200 and "txsse_published_total 1.0" in metrics
            assert get(hub.removesuffix(PATH) + "/health/ready")[0] == 404
            process.stop()

    def test_journal_is_unavailable(self) -> None:
        """
        While its journal is unavailable, the service is live but not ready, and reports the reason.
        """
        journal = f"--journal=redis://127.0.0.1:{free_port()}"
        with running(LISTEN, URL, journal, "--admin=tcp:0:interface=127.0.0.1", listens=2) as process:
            ready, hub = process.urls
            wait_until(lambda: "cannot connect" in get(ready)[1], what="the hub reports its journal")
            status, said = get(ready)
            assert status == 503 and "cannot connect" in said
            assert get(ready.replace("ready", "live"))[0] == 200
            with pytest.raises(urllib.error.HTTPError) as raised:
                publish(hub, "news", "x")
            with raised.value as error:
                assert (error.code, error.headers["Retry-After"]) == (503, "5")


class EndTests:
    def test_drained(self) -> None:
        """
        When the service stops, clients get a reconnect delay, and their streams end properly.
        """
        with running(LISTEN, URL) as process:
            [url] = process.urls
            publish(url, "news", "x")
            subscriber = Subscriber(url)
            reading = threading.Thread(target=lambda: _read_to_the_end(subscriber))
            reading.start()
            wait_until(lambda: "x" in subscriber.texts, what="the update arrives")
            process.stop()
            reading.join(PATIENCE)
        assert subscriber.retry is not None and 1 <= subscriber.retry <= 10

    @pytest.mark.parametrize("again", [signal.SIGHUP, None])
    def test_sighup(self, again: signal.Signals | None) -> None:
        """
        SIGHUP, which a closed terminal sends, drains the service; a second SIGHUP is ignored.
        """
        with running(LISTEN, URL) as process:
            [url] = process.urls
            publish(url, "news", "x")
            subscriber = Subscriber(url)
            reading = threading.Thread(target=lambda: _read_to_the_end(subscriber))
            reading.start()
            wait_until(lambda: "x" in subscriber.texts)
            process.process.send_signal(signal.SIGHUP)
            if again is not None:
                process.process.send_signal(again)
            log = process.wait()
            reading.join(PATIENCE)
        assert subscriber.retry is not None
        assert process.process.returncode == 0
        assert log.count("Received SIGHUP, shutting down.") == 1

    def test_nohup(self) -> None:
        """
        A service started with SIGHUP ignored continues to ignore it.
        """
        with running(LISTEN, URL, starter=["nohup"]) as process:
            [url] = process.urls
            process.process.send_signal(signal.SIGHUP)
            publish(url, "news", "x")
            assert Subscriber(url).read_until("x") == ["x"]
            process.stop()

    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (signal.SIGTERM, signal.SIGINT),
            (signal.SIGINT, signal.SIGTERM),
            (signal.SIGHUP, signal.SIGTERM),
        ],
    )
    def test_second_signal(self, first: signal.Signals, second: signal.Signals) -> None:
        """
        A second SIGTERM or SIGINT ends a service that waits for a client, and is logged in one line.
        """
        with self.waiting_for_a_client() as process:
            process.process.send_signal(first)
            wait_until(lambda: _refuses(process.urls[0]))
            # The same order may come twice, within half a second.
            time.sleep(0.6)
            log = process.stop(second)
        assert process.process.returncode == -second
        assert log.count(f"Received {second.name} again, exiting at once.") == 1

    def test_duplicate_signal(self) -> None:
        """
        Signals within half a second of the first one, as GNU timeout sends them, drain the service.
        """
        with self.waiting_for_a_client("--shutdown-timeout=1") as process:
            process.process.send_signal(signal.SIGTERM)
            process.process.send_signal(signal.SIGINT)
            process.process.send_signal(signal.SIGTERM)
            log = process.wait()
        assert "1 clients were cut off: they did not read everything in time" in log
        assert "again" not in log

    @contextmanager
    def waiting_for_a_client(self, *options: str) -> Iterator[Process]:
        """
        Run a service that waits for a client that does not read when it stops.
        """
        with (
            running(LISTEN, URL, *(options or ["--shutdown-timeout=60"])) as process,
            socket.socket() as client,
        ):
            url = urlsplit(process.urls[0])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((url.hostname, url.port))
            head = f"GET {url.path}?match=news HTTP/1.1\r\nHost: hub.example\r\n"
            client.sendall(f"{head}Authorization: Bearer {token()}\r\n\r\n".encode())
            client.recv(1)
            for _ in range(64):
                # More than the socket's buffers hold.
                publish(process.urls[0], "news", "x" * 100_000)
            yield process

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_restart(self, tmp_path: Path, number: signal.Signals) -> None:
        """
        With a socket that outlives the process, the next process continues, after SIGTERM and after SIGKILL:
        no event is lost or sent twice, and no client is refused.
        """
        journal = f"--journal=sqlite:{tmp_path}/hub.sqlite"
        with closing(socket.create_server(("127.0.0.1", 0))) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}{PATH}"
            argv = ["--listen=systemd:domain=INET:index=0", URL, journal]
            published: list[str] = []
            over = threading.Event()
            publishing = threading.Thread(target=_publish_on, args=(url, published, over))
            subscriber = Subscriber(url)
            reading = threading.Thread(target=subscriber.read_until, args=("last",))
            with running(*argv, inherited=listening) as first:
                publishing.start()
                reading.start()
                wait_until(lambda: len(subscriber.texts) > 20)
                first.process.send_signal(number)
                first.process.wait(PATIENCE)
            with running(*argv, inherited=listening):
                seen = len(subscriber.texts)
                wait_until(lambda: len(subscriber.texts) > seen + 20)
                over.set()
                publishing.join(PATIENCE)
                publish(url, "news", "last")
                reading.join(PATIENCE)
        assert subscriber.visits > 1
        assert subscriber.texts == [*published, "last"]

    def test_check(self) -> None:
        """
        --check prints the configuration without secrets, and serves nothing.
        """
        done = finish([TWIST, "txsse", "--check", "--anonymous"], env={"PATH": "/bin", "TXSSE_KEY": SECRET})
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
        lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
        assert lines["key"] == ["key", "(secret)", "TXSSE_KEY"]
        assert lines["anonymous"] == ["anonymous", "yes", "--anonymous"]
        assert "keys to publish: HS256/HS384/HS512" in done.stdout


def _refuses(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as attempt:
        return attempt.connect_ex((parts.hostname, parts.port)) != 0


def _list(url: str) -> list[object]:
    headers = {"Authorization": f"Bearer {token()}"}
    request = urllib.request.Request(f"{url}/subscriptions", headers=headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        found: list[object] = json.load(answer)["subscriptions"]
    return found


def _read_to_the_end(subscriber: Subscriber) -> None:
    # There is no such text: it reads until the stream ends.
    subscriber._visit("\0")


def _publish_on(url: str, published: list[str], over: threading.Event) -> None:
    """
    Publish numbered updates, each again with its ID until it is acknowledged.
    """
    number = 0
    while not over.is_set():
        text = str(number)
        try:
            publish(url, "news", text, id=f"urn:x:{number}")
        except (OSError, urllib.error.URLError):
            time.sleep(0.02)
            continue
        published.append(text)
        number += 1
