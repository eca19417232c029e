"""
Tests of the demo's hub, over real HTTP on a fake network: publishing, replay, and the number of pages.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from tests.fakes import Client, Wire
from txsse.demo.resource import Demo
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventStreamParser

SAME_ORIGIN = ("Host: localhost:8080", "Origin: http://localhost:8080")

LONGEST = "ü" * 2048


@pytest.fixture
def demo(plain: Wire) -> Demo:
    return Demo(plain.reactor)


class Pages:
    """
    Opens pages of one demo, and closes them after the test.
    """

    def __init__(self, wire: Wire, demo: Demo) -> None:
        self.clients: list[Client] = []
        self._wire = wire
        self._demo = demo

    def open(self, query: str = "", **headers: str) -> Client:
        """
        Subscribe to the demo's hub.
        """
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        client = self._wire.connect(self._demo).request(f"/streams/hub{query}", headers=fields)
        self.clients.append(client)
        return client

    def post(self, body: str, *fields: str) -> Client:
        """
        Send a form to the demo's hub.
        """
        client = self._wire.connect(self._demo)
        lines = ["POST /hub/publish HTTP/1.1", *fields, f"Content-Length: {len(body)}"]
        form = "Content-Type: application/x-www-form-urlencoded"
        client.say("\r\n".join([*lines, form, "", body]).encode("ascii"))
        client.disconnect()
        self.pump()
        return client

    def publish(self, text: str) -> str:
        """
        Publish a message, and return its ID.
        """
        answer = self.post(f"data={quote(text)}", *SAME_ORIGIN)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        id: str = json.loads(answer.body)["id"]
        return id

    def pump(self) -> None:
        for client in self.clients:
            client.pump()


@pytest.fixture
def pages(plain: Wire, demo: Demo) -> Iterator[Pages]:
    pages = Pages(plain, demo)
    yield pages
    for client in pages.clients:
        if client.connected:
            client.disconnect()
    # The pages are no longer present after a second.
    plain.reactor.advance(1)


def events(client: Client, type: str) -> list[ServerSentEvent]:
    """
    Return the events of a type that a client has received.
    """
    return [event for event in EventStreamParser().feed(client.body) if event.event == type]


def counts(client: Client) -> list[int]:
    """
    Return the numbers of pages that a client was sent.
    """
    return [json.loads(event.data)["pages"] for event in events(client, "presence")]


class StreamTests:
    def test_published_message_reaches_every_page(self, pages: Pages) -> None:
        """
        Every page receives a published message, with the ID that the publication returned.
        """
        listening = [pages.open() for _ in range(3)]
        id = pages.publish("Grüße,\nan alle")
        for client in listening:
            assert events(client, "message") == [ServerSentEvent("Grüße,\nan alle", "message", id)]

    def test_replay_from_earliest(self, pages: Pages) -> None:
        """
        A page that asks for the earliest message receives all recorded messages, and then new ones.
        """
        ids = [pages.publish(f"message {number}") for number in range(3)]
        late = pages.open("?lastEventId=earliest")
        ids.append(pages.publish("message 3"))
        assert [event.id for event in events(late, "message")] == ids
        assert events(late, "stream-reset") == []

    def test_replay_is_limited_to_fifty(self, pages: Pages) -> None:
        """
        A new page is replayed the newest fifty messages; pages that connected and disconnected meanwhile do
        not count.
        """
        for number in range(60):
            pages.open().disconnect()
            pages.publish(str(number))
        late = pages.open("?lastEventId=earliest")
        assert [event.data for event in events(late, "message")] == [str(number) for number in range(10, 60)]

    def test_subscription_without_last_event_id(self, pages: Pages) -> None:
        """
        A page without a last event ID receives only messages published after it connected.
        """
        pages.publish("before")
        page = pages.open()
        pages.publish("after")
        assert [event.data for event in events(page, "message")] == ["after"]

    def test_reconnection(self, pages: Pages) -> None:
        """
        A page that reconnects resumes after the last message it received; the header takes precedence over
        the query.
        """
        seen = pages.publish("seen")
        missed = pages.publish("missed")
        page = pages.open("?lastEventId=earliest", Last_Event_ID=seen)
        assert [event.id for event in events(page, "message")] == [missed]
        [connected] = events(page, "connected")
        assert json.loads(connected.data) == {"last_event_id": seen}

    def test_reconnection_after_a_gap(self, pages: Pages) -> None:
        """
        A page whose last message is no longer in the journal gets stream-reset, and then the recorded
        messages.
        """
        pages.publish("still here")
        page = pages.open(Last_Event_ID="of another time")
        assert len(events(page, "stream-reset")) == 1
        assert [event.data for event in events(page, "message")] == ["still here"]

    def test_first_events(self, pages: Pages) -> None:
        """
        The stream of the hub begins with a retry of one second and an event with the Last-Event-ID that the
        server saw.
        """
        page = pages.open("?lastEventId=earliest")
        assert page.body.startswith(b"retry: 1000\n")
        first = EventStreamParser().feed(page.body)[0]
        assert first == ServerSentEvent('{"last_event_id":"earliest"}', "connected", "")

    def test_closed_by_the_server(self, plain: Wire, demo: Demo, pages: Pages) -> None:
        """
        A request that closes the hub's streams ends all of them properly, and returns their number.
        """
        listening = [pages.open() for _ in range(2)]
        pages.open().disconnect()
        asking = plain.connect(demo)
        body = "stream=hub"
        fields = [*SAME_ORIGIN, f"Content-Length: {len(body)}"]
        form = "Content-Type: application/x-www-form-urlencoded"
        lines = ["POST /streams/close HTTP/1.1", *fields, form, "", body]
        asking.say("\r\n".join(lines).encode("ascii"))
        assert json.loads(asking.body) == {"closed": 2}
        asking.disconnect()
        pages.pump()
        assert all(client.ended for client in listening)


class PresenceTests:
    def test_pages_connect_and_disconnect(self, plain: Wire, pages: Pages) -> None:
        """
        The demo sends each page the number of pages when it connects, and again when the number changes: a
        second after a page has disconnected, since it may be loaded again.
        """
        first = pages.open("?page=a")
        second = pages.open("?page=b")
        pages.pump()
        assert (counts(first), counts(second)) == ([1, 2], [2])
        second.disconnect()
        pages.pump()
        assert counts(first) == [1, 2]
        plain.reactor.advance(1)
        pages.pump()
        assert counts(first) == [1, 2, 1]

    def test_two_streams_of_a_page(self, pages: Pages) -> None:
        """
        Two streams of one page count as one page, and the second stream sends no new number to the first.
        """
        both = [pages.open("?page=a") for _ in range(2)]
        pages.pump()
        assert [counts(client) for client in both] == [[1], [1]]
        both[0].disconnect()
        pages.pump()
        assert counts(both[1]) == [1]

    @pytest.mark.parametrize("query", ["", "?page=", "?page"])
    def test_stream_without_page_id(self, pages: Pages, query: str) -> None:
        """
        A stream without a page ID counts as a page.
        """
        clients = [pages.open(query) for _ in range(2)]
        pages.pump()
        assert [counts(client)[-1] for client in clients] == [2, 2]

    def test_number_of_pages_is_not_recorded(self, pages: Pages) -> None:
        """
        The number of pages is sent without an ID, and is not replayed.
        """
        first = pages.open()
        pages.open().disconnect()
        pages.publish("a message")
        sent = [block for block in first.body.split(b"\n\n") if b"event: presence" in block]
        assert sent == [b'event: presence\ndata: {"pages":%d}' % number for number in (1, 2, 1)]
        late = pages.open("?lastEventId=earliest")
        pages.pump()
        assert counts(late) == [2]

    def test_closing_stream(self, plain: Wire, demo: Demo, pages: Pages) -> None:
        """
        A closing stream gets no number of pages, and the other pages still get it.
        """
        slow = pages.open()
        slow.stop_reading()
        for _ in range(20):
            pages.publish(LONGEST)
        demo._hub.close_all()
        other = pages.open()
        pages.pump()
        assert counts(other) == [2]
        slow.read_on()
        pages.pump()
        assert (counts(slow), counts(other)) == ([1], [2, 1])
        assert slow.ended

    def test_all_close_at_once(self, plain: Wire, pages: Pages) -> None:
        """
        After the last page has disconnected, the demo sends nothing and leaves nothing in the reactor.
        """
        listening = [pages.open() for _ in range(2)]
        for client in listening:
            client.transport.connectionLost(Failure(ConnectionDone()))
        plain.reactor.run_soon()
        assert plain.reactor.getDelayedCalls() == []


class PublishTests:
    def test_publication_by_another_origin(self, pages: Pages) -> None:
        """
        A publication by a page of another origin gets 403, and is not published.
        """
        page = pages.open()
        refused = pages.post("data=x", "Host: localhost:8080", "Origin: http://example.org")
        assert refused.status == 403
        assert events(page, "message") == []

    def test_longest_message(self, pages: Pages) -> None:
        """
        The demo accepts a message of 4096 bytes.
        """
        page = pages.open()
        pages.publish(LONGEST)
        assert [event.data for event in events(page, "message")] == [LONGEST]

    def test_message_that_is_too_long(self, pages: Pages) -> None:
        """
        A message of 4097 bytes gets 413, with the limit.
        """
        page = pages.open()
        answer = pages.post(f"data={quote(LONGEST + '.')}", *SAME_ORIGIN)
        assert answer.status == 413
        assert "4096" in answer.body.decode()
        assert events(page, "message") == []

    @pytest.mark.parametrize("body", ["", "text=x", "data", "data=%FF", "data=%ED%A0%80"])
    def test_no_message(self, pages: Pages, body: str) -> None:
        """
        A form without a message, or with a message that is not UTF-8, gets 400 and one sentence.
        """
        answer = pages.post(body, *SAME_ORIGIN)
        assert answer.status == 400
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.body.decode().count("\n") == 1

    @pytest.mark.parametrize("text", ["", " ", "data: x\n\nevent: y", "\0", "a\r\nb", "👋" * 1024])
    def test_any_text(self, pages: Pages, text: str) -> None:
        """
        A message of any other text arrives unchanged, except that line ends become LF.
        """
        page = pages.open()
        pages.publish(text)
        assert [event.data for event in events(page, "message")] == [text.replace("\r\n", "\n")]

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT"])
    def test_another_method(self, plain: Wire, demo: Demo, method: str) -> None:
        """
        The publishing resource of the demo answers methods other than POST with 405 and Allow: POST.
        """
        client = plain.connect(demo).request("/hub/publish", method=method)
        assert (client.status, client.headers["allow"]) == (405, "POST")
        client.disconnect()


class StopTests:
    def test_streams_end_with_retry(self, plain: Wire, demo: Demo, pages: Pages) -> None:
        """
        When the demo stops, every stream ends with a different retry, and nothing is left in the reactor.
        """
        listening = [pages.open() for _ in range(2)]
        assert Deferred.fromCoroutine(demo.stop()).called
        for client in listening:
            client.pump()
            assert client.ended
            parser = EventStreamParser()
            parser.feed(client.body)
            assert parser.retry is not None and 1 <= parser.retry <= 3
        assert plain.reactor.getDelayedCalls() == []

    def test_requests_after_stop(self, demo: Demo, pages: Pages) -> None:
        """
        A stopped demo refuses streams and messages.
        """
        assert Deferred.fromCoroutine(demo.stop()).called
        assert (pages.open().status, pages.open().ended) == (200, True)
        assert pages.post("data=x", *SAME_ORIGIN).status == 503

    def test_client_that_does_not_read(self, plain: Wire, demo: Demo, pages: Pages) -> None:
        """
        A stopping demo waits five seconds for a client that does not read, and then closes its connection.
        """
        slow = pages.open()
        slow.stop_reading()
        for _ in range(20):
            pages.publish(LONGEST)
        stopped = Deferred.fromCoroutine(demo.stop())
        plain.reactor.advance(4.999)
        assert not stopped.called
        plain.reactor.advance(0.001)
        assert slow.reset
        assert stopped.called
