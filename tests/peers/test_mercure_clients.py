"""
Published Mercure clients of other projects (Node's ``eventsource``, Microsoft's ``fetch-event-source``,
``pymercure`` and ``mercure-publisher``) against a hub in its own process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mercure.world import SECRET
from tests.needs import needs
from tests.peers.mercure import BOOKS, LISTEN, URL, find_node, following, old_token, target
from tests.processes import free_port
from tests.service.process import publish, running, token
from tests.waiting import PATIENCE, wait_until

CLIENTS = ["eventsource", "fetch-event-source"]


@pytest.fixture(scope="module")
@needs("node")
def node() -> str:
    """
    Return the path of Node; skip the tests if Node or a package is missing.
    """
    return find_node("eventsource", "@microsoft/fetch-event-source")


@pytest.fixture(scope="module")
@needs("process")
def hub() -> Iterator[str]:
    """
    Run a hub, and return its URL.
    """
    with running(LISTEN, URL, "--keepalive=0.3s") as process:
        yield process.urls[0]
        process.stop()


@pytest.fixture(scope="module")
@needs("process")
def old_hub() -> Iterator[str]:
    """
    Run a hub in compatibility mode that admits anonymous subscribers, and return its URL.
    """
    with running(LISTEN, URL, "--anonymous", "--compatibility") as process:
        yield process.urls[0]
        process.stop()


@pytest.mark.node
@pytest.mark.parametrize("client", CLIENTS)
class NodeTests:
    @pytest.mark.process
    def test_read(self, node: str, client: str, hub: str) -> None:
        """
        A Node client receives exactly the updates that it subscribed to, public and private, with their ids
        and types.
        """
        url = target(hub, match="news", match_urlpattern=f"{BOOKS}/:id")
        with following(node, client, url, token=token(), types=("tick",)) as reader:
            reader.wait_for("open")
            ids = [
                publish(hub, "news", "größe\nin two lines"),
                publish(hub, f"{BOOKS}/1", "a book", type="tick"),
                publish(hub, f"{BOOKS}/2", "another one", private="on", id=f"urn:x:{client}"),
            ]
            publish(hub, f"{BOOKS}/1/reviews", "too deep")
            publish(hub, "news", "last")
            events = reader.wait_for_data("last")
        assert events[:-1] == [
            ("message", "größe\nin two lines", ids[0]),
            ("tick", "a book", ids[1]),
            ("message", "another one", f"urn:x:{client}"),
        ]

    def test_private(self, node: str, client: str, hub: str) -> None:
        """
        A Node client receives only the private updates whose topic its token grants.
        """
        url = target(hub, match="*")
        with following(node, client, url, token=token(subscribe=[f"{BOOKS}/1"])) as reader:
            reader.wait_for("open")
            for number in "12":
                publish(hub, f"{BOOKS}/{number}", f"book {number}", private="on")
            publish(hub, "news", "last")
            events = reader.wait_for_data("last")
        assert [data for _, data, _ in events] == ["book 1", "last"]

    @pytest.mark.parametrize("presented", [None, "nonsense"])
    def test_refused(self, node: str, client: str, hub: str, presented: str | None) -> None:
        """
        A Node client without a valid token is refused once and does not reconnect.
        """
        with following(node, client, target(hub, match="news"), token=presented) as reader:
            if client == "eventsource":
                reader.wait_for("error")
                assert reader.notes == [["error", 401, 2]]
            else:
                reader.wait_for("failed")
                assert reader.notes == [["open", 401, None], ["failed", "refused"]]

    def test_resume(self, node: str, client: str, hub: str) -> None:
        """
        A Node client that sends Last-Event-ID receives the updates after it.
        """
        first = publish(hub, "resumed", "first")
        publish(hub, "resumed", "second")
        with following(
            node,
            client,
            target(hub, match="resumed"),
            token=token(),
            **{"Last-Event-ID": first},  # type: ignore[arg-type]
        ) as reader:
            assert [data for _, data, _ in reader.wait_for_data("second")] == ["second"]
            if client == "fetch-event-source":
                assert reader.notes[0] == ["open", 200, first]

    @pytest.mark.process
    def test_restart(self, node: str, client: str, tmp_path: Path) -> None:
        """
        After a restart of the hub a Node client receives each update once, including those published
        meanwhile.
        """
        argv = [
            f"--listen=tcp:{free_port()}:interface=127.0.0.1",
            URL,
            f"--journal=sqlite:{tmp_path}/hub.sqlite",
        ]
        with running(*argv) as first:
            [url] = first.urls
            with following(node, client, target(url, match="news"), token=token(), onclose="again") as reader:
                reader.wait_for("open")
                publish(url, "news", "0", retry="200")
                publish(url, "news", "1")
                reader.wait_for_data("1")
                first.stop()
                with running(*argv) as second:
                    for number in range(2, 8):
                        publish(url, "news", str(number), private="on")
                    events = reader.wait_for_data("7")
                    second.stop()
        assert [data for _, data, _ in events] == [str(number) for number in range(8)]

    @pytest.mark.process
    def test_short_streams(self, node: str, client: str) -> None:
        """
        A Node client receives each update once, however often the hub ends the stream.
        """
        with running(LISTEN, URL, "--max-lifetime=0.5s") as process:
            [url] = process.urls
            with following(node, client, target(url, match="news"), token=token(), onclose="again") as reader:
                reader.wait_for("open")
                for number in range(1000):
                    publish(url, "news", str(number), retry="50")
                    if len([note for note in reader.notes if note[0] == "open"]) > 3:
                        break
                    reader.wait_for_data(str(number // 2))
                publish(url, "news", "last")
                events = reader.wait_for_data("last")
            process.stop()
        assert [data for _, data, _ in events] == [*(str(each) for each in range(number + 1)), "last"]

    @pytest.mark.process
    @pytest.mark.parametrize("carrier", ["header", "query"])
    def test_before_1_0(self, node: str, client: str, old_hub: str, carrier: str) -> None:
        """
        A Node client may subscribe as before Mercure 1.0, with URI templates, an older token, and the last
        event id in the query.
        """
        books = f"{BOOKS}/{carrier}-{client}"
        access = old_token(subscribe=[f"{books}/{{id}}"])
        first = publish(old_hub, f"{books}/1", "first")
        publish(old_hub, f"{books}/2", "second", private="on")
        parameters = {"topic": [f"{books}/{{id}}", "news"], "lastEventID": first}
        if carrier == "query":
            parameters["authorization"] = access
        url = target(old_hub, **parameters)  # type: ignore[arg-type]
        with following(node, client, url, token=access if carrier == "header" else None) as reader:
            reader.wait_for_data("second")
            publish(old_hub, "news", "private", private="on")
            publish(old_hub, "news", "last")
            events = reader.wait_for_data("last")
        assert [data for _, data, _ in events] == ["second", "last"]


@pytest.mark.node
class NotShownTests:
    def test_event_source(self, node: str, hub: str) -> None:
        """
        Node's ``eventsource`` shows neither the initial id of a stream nor keep-alive comments.
        """
        with following(node, "eventsource", target(hub, match="quiet"), token=token()) as reader:
            reader.wait_for("open")
            time.sleep(1.0)
            publish(hub, "quiet", "last")
            reader.wait_for_data("last")
        assert [note[0] for note in reader.notes] == ["open", "event"]

    def test_fetch_event_source(self, node: str, hub: str) -> None:
        """
        Microsoft's ``fetch-event-source`` takes every empty line for the end of an event: it shows an event
        without data for the initial id and an empty one for each comment.
        """
        with following(node, "fetch-event-source", target(hub, match="quiet"), token=token()) as reader:
            reader.wait_for("event", 3)
            id = publish(hub, "quiet", "last")
            reader.wait_for_data("last")
        (type, data, newcomer), *comments = [note for note in reader.shown if note != ["", "last", id]]
        assert (type, data) == ("", "") and newcomer != ""
        assert comments and all(comment == ["", "", ""] for comment in comments)

    def test_json_only(self, node: str, hub: str) -> None:
        """
        A program that parses all data as JSON fails at the empty events of ``fetch-event-source``, which then
        reconnects each time and misses nothing.
        """
        url = target(hub, match="json")
        with following(node, "fetch-event-source", url, token=token(), json_alone=True) as reader:
            reader.wait_for("open")
            for number in range(10):
                publish(hub, "json", str(number))
                time.sleep(0.2)
            reader.wait_for("open", 3)
            publish(hub, "json", "10")
            events = reader.wait_for_data("10")
        assert [data for _, data, _ in events] == [str(number) for number in range(11)]
        assert None not in [resumed for _, _, resumed in reader.wait_for("open")[1:]]

    @pytest.mark.process
    def test_fetch_event_source_stops(self, node: str) -> None:
        """
        Microsoft's ``fetch-event-source`` does not reconnect after an orderly end of the stream unless the
        program requests it.
        """
        with running(LISTEN, URL, "--max-lifetime=0.2s") as process:
            url = target(process.urls[0], match="news")
            with following(node, "fetch-event-source", url, token=token()) as reader:
                reader.wait_for("end")
            process.stop()
        assert [note[0] for note in reader.notes if note[0] != "event"] == ["open", "close", "end"]

    @pytest.mark.process
    def test_restart_before_the_first_event(self, node: str, tmp_path: Path) -> None:
        """
        Microsoft's ``fetch-event-source`` resumes from the initial id before its first event; Node's
        ``eventsource`` does not, since unlike browsers it uses only the ids of events.
        """
        argv = [
            f"--listen=tcp:{free_port()}:interface=127.0.0.1",
            URL,
            f"--journal=sqlite:{tmp_path}/hub.sqlite",
        ]
        with running(*argv) as first:
            [url] = first.urls
            publish(url, "news", "too early")
            with following(
                node, "fetch-event-source", target(url, match="news"), token=token(), onclose="again"
            ) as reader:
                reader.wait_for("open")
                first.stop()
                with running(*argv) as second:
                    publish(url, "news", "meanwhile")
                    events = reader.wait_for_data("meanwhile")
                    second.stop()
        assert [data for _, data, _ in events] == ["meanwhile"]


class PymercureTests:
    """
    ``pymercure``, which predates Mercure 1.0 and has neither private updates nor tokens for subscribers.
    """

    @pytest.fixture
    def pymercure(self) -> None:
        for package in ("pymercure", "requests", "sseclient"):
            pytest.importorskip(package, reason="pip install pymercure")

    def test_publish_and_consume(self, pymercure: None, old_hub: str) -> None:
        """
        The consumer of ``pymercure`` receives the updates that its publisher publishes.
        """
        from pymercure.consumer import Consumer
        from pymercure.message import Message
        from pymercure.publisher.sync import SyncPublisher

        got: list[Any] = []
        consumer = Consumer(old_hub, [f"{BOOKS}/pymercure/{{id}}", "pymercure"], got.append)
        consumer.daemon = True
        consumer.start_consumption()
        publisher = SyncPublisher(old_hub, old_token(publish=["*"]))
        topics = [f"{BOOKS}/pymercure/1", "alternate"]
        id = publisher.publish(Message(topics, "größe", event_type="tick", target="nobody"))
        assert id.startswith("urn:uuid:")
        assert publisher.publish(Message(["pymercure"], '{"a": 1}', message_id="urn:x:1")) == "urn:x:1"
        wait_until(lambda: got, lambda got: sum(bool(each.data) for each in got) == 2, "both")
        shown = [(each.event_type, each.data, each.message_id) for each in got if each.data]
        assert shown == [("tick", "größe", id), ("message", '{"a": 1}', "urn:x:1")]

    @pytest.mark.parametrize(
        ("access", "error"),
        [("nonsense", "UnauthorizedPublisherError"), ("other", "PublishRejectedError")],
    )
    def test_refused(self, pymercure: None, old_hub: str, access: str, error: str) -> None:
        """
        The publisher of ``pymercure`` raises different errors for an invalid token and for one that grants
        other topics.
        """
        from pymercure import exceptions
        from pymercure.message import Message
        from pymercure.publisher.sync import SyncPublisher

        given = old_token(publish=["other"]) if access == "other" else access
        with pytest.raises(getattr(exceptions, error)):
            SyncPublisher(old_hub, given).publish(Message(["news"], "refused"))


class MercurePublisherTests:
    """
    ``mercure-publisher``, which signs its own tokens.
    """

    @pytest.fixture
    def package(self) -> Any:
        return pytest.importorskip("mercure_publisher", reason="pip install mercure-publisher")

    @pytest.mark.node
    def test_published(self, package: Any, node: str, old_hub: str) -> None:
        """
        A reader receives the updates of both publishers of ``mercure-publisher``, with all their fields.
        """
        config = package.MercureConfig(old_hub, SECRET, [f"{BOOKS}/{{id}}"], request_timeout=PATIENCE)
        url = target(old_hub, topic=f"{BOOKS}/publisher")
        with following(node, "eventsource", url, token=old_token(), types=("tick",)) as reader:
            reader.wait_for("open")
            with package.MercurePublisher(config) as publisher:
                id = publisher.publish([f"{BOOKS}/publisher", f"{BOOKS}/2"], {"ä": [1, None]}, private=True)
                with pytest.raises(package.MercurePublishError) as raised:
                    publisher.publish("news", "refused")
                assert raised.value.status_code == 403
            assert asyncio.run(self._publish(package, config)) == "urn:x:2"
            events = reader.wait_for_data("last")
        assert events == [("message", '{"\\u00e4": [1, null]}', id), ("tick", "last", "urn:x:2")]

    async def _publish(self, package: Any, config: Any) -> str:
        async with package.AsyncMercurePublisher(config) as publisher:
            id: str = await publisher.publish(
                f"{BOOKS}/publisher", "last", id="urn:x:2", type="tick", retry=500
            )
            return id

    def test_1_0(self, package: Any, hub: str) -> None:
        """
        The tokens of ``mercure-publisher`` predate Mercure 1.0, and a hub without compatibility mode refuses
        them.
        """
        config = package.MercureConfig(hub, SECRET, ["*"], request_timeout=PATIENCE)
        with package.MercurePublisher(config) as publisher:
            with pytest.raises(package.MercurePublishError) as raised:
                publisher.publish("news", "refused")
        assert raised.value.status_code == 401
