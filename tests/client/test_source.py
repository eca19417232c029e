"""
An event source, with nothing below it but what a test answers.

Source of the rules: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import gc
import random
import sys
import weakref
from typing import Any, ClassVar

import pytest
from OpenSSL.SSL import Error as OpenSSLError
from service_identity import VerificationError
from service_identity.exceptions import DNSMismatch
from service_identity.hazmat import DNS_ID
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost, ConnectionRefusedError, DNSLookupError
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogLevel, capturedLogs
from twisted.python.failure import Failure
from twisted.web._newclient import BadResponseVersion, ParseError
from twisted.web.client import ResponseFailed, ResponseNeverReceived
from twisted.web.error import SchemeNotSupported
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer
from zope.interface.verify import verifyObject

from tests.client.fakes import FakeAgent, FakeResponse, Followed, outcome_of
from txsse.client.machine import ReadyState
from txsse.client.source import EventSource
from txsse.errors import (
    ConnectionFailed,
    EventTooLarge,
    InvalidResponse,
    PeerSilent,
    SSEError,
    StreamEnded,
    StreamRefused,
)
from txsse.protocol.event import ServerSentEvent


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


class RequestTests:
    def test_fake(self) -> None:
        """
        What stands for the agent is one.
        """
        verifyObject(IAgent, FakeAgent())

    def test_headers(self) -> None:
        """
        The request asks for a stream, and for none out of a cache; it resumes nothing.
        """
        asked = Followed().asked
        assert (asked.method, asked.uri) == ("GET", "https://example.org/events")
        assert asked.headers == {"accept": b"text/event-stream", "cache-control": b"no-cache"}

    @pytest.mark.parametrize(
        "headers", [{"X-Own": "1", "accept": "text/*"}, Headers({"X-Own": ["1"], "Accept": ["text/*"]})]
    )
    def test_own_headers(self, headers: Any) -> None:
        """
        The user's own come with it, and in the place of the usual ones.
        """
        asked = Followed(headers=headers).asked
        assert asked.headers == {"x-own": b"1", "accept": b"text/*", "cache-control": b"no-cache"}

    def test_last_event_id(self) -> None:
        """
        It is sent in UTF-8.
        """
        followed = Followed(last_event_id="ä 1")
        assert followed.asked.headers["last-event-id"] == "ä 1".encode()
        assert followed.source.last_event_id == "ä 1"

    def test_method_and_body(self) -> None:
        """
        Language models stream the answer to a POST; each attempt sends it anew.
        """
        followed = Followed(method="POST", body=b"{}", retry=1.0)
        assert (followed.asked.method, followed.asked.body) == ("POST", b"{}")
        followed.asked.lose()
        assert followed.again(1.0).body == b"{}"

    @pytest.mark.parametrize("options", [{"method": "GE T"}, {"method": ""}, {"headers": {"ä": "b"}}])
    def test_cannot_be(self, options: dict[str, Any]) -> None:
        """
        What cannot be sent is refused before anything is.
        """
        with pytest.raises(ValueError, match="is no"):
            EventSource("http://a/", **options)

    def test_not_before_it_is_started(self) -> None:
        """
        Making one asks for nothing, and starting it twice asks once.
        """
        agent = FakeAgent()
        source = EventSource("http://example.org/", agent=agent, reactor=Clock())
        assert (agent.requests, source.ready_state) == ([], ReadyState.CONNECTING)
        source.start()
        source.start()
        assert len(agent.requests) == 1

    def test_url(self) -> None:
        """
        A wrong one is refused at once.
        """
        with pytest.raises(ValueError, match="no URL of HTTP"):
            EventSource("/events")


class OpenTests:
    def test_open(self) -> None:
        """
        A good reply opens it, before the first event.
        """
        followed = Followed()
        opened = outcome_of(followed.source.when_open())
        assert (followed.source.ready_state, opened) == (0, [])
        followed.asked.reply()
        assert (followed.source.ready_state, opened) == (1, [None])
        assert outcome_of(followed.source.when_open()) == [None]
        assert "open" in repr(followed.source)

    def test_refused(self) -> None:
        """
        Any other ends it, and the program is told why.
        """
        followed = Followed()
        opened, closed = outcome_of(followed.source.when_open()), outcome_of(followed.source.when_closed())
        response = followed.asked.reply(404)
        response.end()
        (error,) = followed.errors
        assert isinstance(error, StreamRefused) and error.status == 404
        assert opened == closed == [error]
        assert followed.source.ready_state is ReadyState.CLOSED
        assert followed.source.last_error is error
        assert outcome_of(followed.source.when_open()) == [error]
        assert outcome_of(followed.source.when_closed()) == [error]
        assert followed.clock.getDelayedCalls() == []

    def test_temporary(self) -> None:
        """
        One that the user calls temporary is followed by another attempt, when the server says.
        """
        followed = Followed(reconnect_on=[503], retry=1.0)
        followed.asked.reply(503, {"Retry-After": "30"}).end()
        assert followed.source.ready_state is ReadyState.CONNECTING
        followed.again(30.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_retry_after_a_date(self) -> None:
        """
        A date is compared with the time of day, which may have been set.
        """
        followed = Followed(reconnect_on=[503], retry=1.0)
        followed.clock.step(1_000_000_000 - 60)
        followed.asked.reply(503, {"Retry-After": "Sun, 09 Sep 2001 01:46:40 GMT"}).end()
        followed.again(60.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_redirect(self) -> None:
        """
        It is followed, and the next attempt goes where it led.
        """
        followed = Followed(retry=1.0)
        first = followed.asked.reply(307, {"Location": "https://other.example/"})
        assert first.transport.cut
        assert followed.asked.uri == "https://other.example/"
        assert followed.source.url == "https://example.org/events"
        followed.asked.reply().end()
        assert followed.source.url == "https://other.example/"
        assert followed.again(1.0).uri == "https://other.example/"

    @pytest.mark.parametrize("silent", [False, True])
    def test_redirect_to_a_server_that_goes(self, silent: bool) -> None:
        """
        When the server that a redirect led to cannot be reached any more, the next attempt goes to the first
        URL, with all header fields and the last event ID.
        """
        followed = Followed(retry=1.0, headers={"X-Api-Key": "secret"}, connect_timeout=5.0)
        followed.asked.reply(307, {"Location": "https://other.example/"})
        response = followed.asked.reply()
        response.bring("id: 1\ndata: a\n\n")
        response.end()
        again = followed.again(1.0)
        assert again.uri == "https://other.example/"
        if silent:
            followed.clock.advance(5.1)
        else:
            again.lose(ConnectionRefusedError())
        assert followed.source.url == "https://example.org/events"
        followed.clock.advance(2.0)
        assert followed.asked.uri == "https://example.org/events"
        assert followed.asked.headers["x-api-key"] == b"secret"
        assert followed.asked.headers["last-event-id"] == b"1"
        # That it still redirects there changes nothing, however often.
        followed.asked.reply(307, {"Location": "https://other.example/"})
        followed.asked.lose(ConnectionRefusedError())
        followed.clock.advance(4.0)
        followed.asked.reply(307, {"Location": "https://third.example/"})
        followed.asked.reply().bring("data: b\n\n")
        assert followed.source.url == "https://third.example/"
        assert followed.texts == ["a", "b"]

    def test_redirected_post_to_a_server_that_goes(self) -> None:
        """
        The first URL of a POST is not asked again: its answer was the redirect.
        """
        followed = Followed(retry=1.0, method="POST", body=b"x")
        followed.asked.reply(303, {"Location": "/answer"})
        followed.asked.reply().end()
        for seconds in (1.0, 2.0):
            followed.again(seconds)
            assert (followed.asked.method, followed.asked.uri) == ("GET", "https://example.org/answer")
            followed.asked.lose()

    @pytest.mark.parametrize(("trusted", "sent"), [([], None), (["https://other.example"], b"secret")])
    def test_own_headers_behind_a_redirect(self, trusted: list[str], sent: bytes | None) -> None:
        """
        Another origin does not get them, unless the program trusts it.
        """
        followed = Followed(headers={"X-Api-Key": "secret"}, trusted_origins=trusted)
        assert followed.asked.headers["x-api-key"] == b"secret"
        followed.asked.reply(307, {"Location": "https://other.example/"})
        assert followed.asked.headers.get("x-api-key") == sent
        assert followed.asked.headers["accept"] == b"text/event-stream"

    def test_redirects_in_a_circle(self) -> None:
        """
        After twenty that is the end.
        """
        followed = Followed()
        for _ in range(21):
            followed.asked.reply(302, {"Location": "/events"})
        assert len(followed.agent.requests) == 21
        assert isinstance(followed.source.last_error, StreamRefused)
        assert "more than 20 redirects" in str(followed.source.last_error)
        assert followed.source.ready_state is ReadyState.CLOSED

    def test_closed_when_it_is_told(self) -> None:
        """
        Somebody who closes it as soon as it is open gets nothing.
        """
        followed = Followed()
        followed.source.when_open().addCallback(lambda _: followed.source.close())
        response = followed.asked.reply()
        assert response.transport.cut
        assert followed.source.ready_state is ReadyState.CLOSED


class EventTests:
    def test_as_they_come(self) -> None:
        """
        Each is handed over the moment its last byte is there.
        """
        followed = Followed()
        response = followed.asked.reply()
        response.bring("data: a\n\ndata: b\n")
        assert followed.texts == ["a"]
        response.bring("\n")
        assert followed.texts == ["a", "b"]

    def test_by_type(self) -> None:
        """
        Listeners get what they listen to, beside what gets all.
        """
        followed = Followed()
        heard: list[tuple[str, str]] = []
        for name in ("message", "x"):
            followed.source.add_listener(name, lambda event, name=name: heard.append((name, event.data)))  # type: ignore[misc]
        followed.asked.reply().bring("data: 1\n\nevent: x\ndata: 2\n\nevent: y\ndata: 3\n\n")
        assert heard == [("message", "1"), ("x", "2")]
        assert followed.texts == ["1", "2", "3"]

    def test_closed_inside_a_callback(self) -> None:
        """
        What came in the same packet is not handed over any more.
        """
        followed: Followed = Followed(
            event_received=lambda event: (texts.append(event.data), followed.source.close())  # type: ignore[func-returns-value]
        )
        texts: list[str] = []
        response = followed.asked.reply()
        response.bring("data: a\n\ndata: b\n\n")
        assert texts == ["a"]
        assert response.transport.cut
        assert outcome_of(followed.source.when_closed()) == [None]
        assert followed.clock.getDelayedCalls() == []

    def test_callback_that_fails(self) -> None:
        """
        The next event does not depend on it.
        """
        texts: list[str] = []

        def received(event: Any) -> None:
            texts.append(event.data)
            raise ZeroDivisionError

        Followed(event_received=received).asked.reply().bring("data: a\n\ndata: b\n\n")
        assert texts == ["a", "b"]

    def test_callback_that_takes_its_time(self) -> None:
        """
        The server waits for it, and so do the events behind.
        """
        working: list[Deferred[None]] = []
        texts: list[str] = []

        def received(event: Any) -> Deferred[None]:
            texts.append(event.data)
            working.append(Deferred())
            return working[-1]

        response = Followed(event_received=received).asked.reply()
        response.bring("data: a\n\ndata: b\n\n")
        assert (texts, response.transport.paused) == (["a"], True)
        working[0].callback(None)
        assert (texts, response.transport.paused) == (["a", "b"], True)
        working[1].errback(Failure(ZeroDivisionError()))
        assert response.transport.paused is False
        response.bring("data: c\n\n")
        assert texts == ["a", "b", "c"]

    def test_many_at_once(self) -> None:
        """
        A packet of tiny events does not keep the reactor busy: after ten milliseconds it gets its turn.
        """
        followed: Followed = Followed(event_received=lambda event: followed.clock.advance(0.001))
        response = followed.asked.reply()
        response.bring("data\n\n" * 1000)
        assert response.transport.paused
        assert 0 < len(followed.source._delivery.pending) < 1000
        for _ in range(100):
            followed.clock.advance(0)
        assert not followed.source._delivery.pending
        assert not response.transport.paused

    def test_too_large(self) -> None:
        """
        What came before it is handed over, and then the source ends: it would come again.
        """
        followed = Followed(max_event_size=10)
        response = followed.asked.reply()
        response.bring("data: a\n\ndata: " + "x" * 100)
        assert followed.texts == ["a"]
        assert isinstance(followed.source.last_error, EventTooLarge)
        assert followed.source.ready_state is ReadyState.CLOSED
        assert response.transport.cut


class ReconnectionTests:
    @pytest.mark.parametrize(
        "reason", [None, PotentialDataLoss(), ResponseFailed([Failure(ConnectionLost())])]
    )
    def test_stream_that_ends(self, reason: Exception | None) -> None:
        """
        However it ends, it is asked for again after the time that it named, behind the last event.
        """
        followed = Followed()
        response = followed.asked.reply()
        response.bring("retry: 500\nid: 7\ndata: a\n\ndata: half an event\n")
        response.end(reason)
        assert followed.source.ready_state is ReadyState.CONNECTING
        lost = ConnectionFailed if isinstance(reason, ResponseFailed) else StreamEnded
        assert isinstance(followed.errors[0], lost)
        assert str(followed.errors[0]).startswith("https://example.org/events: the stream ")
        assert followed.source.retry == 0.5
        again = followed.again(0.5)
        assert again.headers["last-event-id"] == b"7"
        again.reply().bring("data: b\n\n")
        assert followed.texts == ["a", "b"]
        assert followed.source.last_event_id == "7"

    def test_id_alone(self) -> None:
        """
        A block that has an id and no data is where to resume from, too; an empty id is nowhere.
        """
        followed = Followed(retry=1.0)
        response = followed.asked.reply()
        response.bring("id: 8\n\n")
        assert followed.source.last_event_id == "8"
        response.end()
        response = followed.again(1.0).reply()
        assert followed.asked.headers["last-event-id"] == b"8"
        response.bring("id\ndata: x\n\n")
        response.end()
        assert "last-event-id" not in followed.again(1.0).headers

    @pytest.mark.parametrize("too_long", ["x" * 8176, "\u2028" * 2726])
    def test_id_that_is_too_long(self, too_long: str) -> None:
        """
        An id that servers would refuse, again with each attempt, is not sent: the one before it is, and the
        log says so once.
        """
        followed = Followed(retry=1.0)
        response = followed.asked.reply()
        with capturedLogs() as logged:
            response.bring("id: 1\ndata: a\n\n")
            response.bring(f"id: {too_long}\ndata: b\n\n")
            assert followed.source.last_event_id == too_long
            response.end()
            response = followed.again(1.0).reply()
            assert followed.asked.headers["last-event-id"] == b"1"
            response.bring(f"id: {too_long}\n\n")
            response.end()
            response = followed.again(2.0).reply()
            assert followed.asked.headers["last-event-id"] == b"1"
        assert [event["log_level"] for event in logged] == [LogLevel.warn]
        response.bring(f"id: {too_long[:2]}\n\n")
        response.end()
        assert followed.again(4.0).headers["last-event-id"] == too_long[:2].encode()

    def test_longest_id(self) -> None:
        """
        An id fits into a line of eight kilobytes.
        """
        longest = "x" * (8192 - len("Last-Event-ID: \r\n"))
        assert Followed(last_event_id=longest).asked.headers["last-event-id"] == longest.encode()
        assert "last-event-id" not in Followed(last_event_id=longest + "x").asked.headers

    def test_byte_order_mark_of_each_stream(self) -> None:
        """
        Each stream begins anew.
        """
        followed = Followed(retry=1.0)
        followed.asked.reply().end()
        followed.again(1.0).reply().bring(b"\xef\xbb\xbfdata: a\n\n")
        assert followed.texts == ["a"]

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionRefusedError(),
            ResponseNeverReceived([Failure(ConnectionRefusedError())]),
            ResponseNeverReceived([Failure(ResponseFailed([Failure(ConnectionRefusedError())]))]),
        ],
    )
    def test_failed_attempts(self, error: Exception) -> None:
        """
        The time between them doubles; the program sees what went wrong, and not what it was wrapped in.
        """
        followed = Followed(retry=1.0, max_retry=5.0)
        for seconds in (1.0, 2.0, 4.0, 5.0, 5.0):
            followed.asked.lose(error)
            assert isinstance(followed.source.last_error, ConnectionFailed)
            assert isinstance(followed.source.last_error.__cause__, ConnectionRefusedError)
            followed.again(seconds)
        assert len(followed.errors) == 5

    def test_stream_that_lasts(self) -> None:
        """
        It makes the failures before it forgotten; one that ends at once does not.
        """
        followed = Followed(retry=1.0, reset_backoff_after=10.0)
        followed.asked.lose()
        followed.again(1.0).reply().end()
        response = followed.again(2.0).reply()
        followed.clock.advance(9.9)
        response.end()
        response = followed.again(4.0).reply()
        followed.clock.advance(10.1)
        response.end()
        followed.again(1.0)

    def test_short_streams_that_deliver(self) -> None:
        """
        A stream that delivered an event was a success: the next attempt comes after the time that the stream
        asked for, and attempts are counted anew.
        """
        followed = Followed(retry=1.0, max_attempts=3)
        followed.asked.lose()
        followed.again(1.0).lose()
        response = followed.again(2.0).reply()
        for _ in range(10):
            response.bring("retry: 1500\nid: 1\ndata: a\n\n")
            response.end()
            response = followed.again(1.5).reply()
        # One that has nothing but comments does not count.
        response.bring(": a\n\nretry: 1500\n\n")
        response.end()
        followed.again(3.0).reply().end()
        assert followed.source.ready_state is ReadyState.CLOSED
        assert followed.texts == ["a"] * 10

    @pytest.mark.parametrize(
        ("options", "asks", "waits"),
        [
            ({}, 86_400_000_000, 60.0),
            ({"max_retry": 5.0}, 6000, 5.0),
            ({}, 0, 0.15),
            ({}, 99, 0.15),
            ({}, 100, 0.1),
            ({"retry": 0.05}, 0, 0.075),
            ({"retry": 0.0}, 0, 0.015),
            ({"max_retry": 0.05}, 0, 0.05),
        ],
    )
    def test_bounds_of_what_a_stream_asks_for(self, options: dict[str, Any], asks: int, waits: float) -> None:
        """
        A stream asks for as long as it likes, and gets what the program allows, however often it delivers.
        """
        followed = Followed(**options)
        for _ in range(3):
            response = followed.asked.reply()
            response.bring(f"retry: {asks}\ndata: a\n\n")
            response.end()
            followed.again(waits)

    def test_attempts_without_success(self) -> None:
        """
        After as many as the user allows, the last error is the end.
        """
        followed = Followed(retry=1.0, max_attempts=3)
        closed = outcome_of(followed.source.when_closed())
        followed.asked.lose()
        followed.again(1.0).lose()
        followed.again(2.0).lose()
        assert isinstance(closed[0], ConnectionFailed)
        assert followed.clock.getDelayedCalls() == []

    def test_no_reply(self) -> None:
        """
        An attempt that takes too long is given up, and counts as failed.
        """
        followed = Followed(connect_timeout=5.0, retry=1.0)
        first = followed.asked
        followed.clock.advance(4.9)
        assert not first.cancelled
        followed.clock.advance(0.2)
        assert first.cancelled
        assert isinstance(followed.source.last_error, PeerSilent)
        followed.again(1.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_silent_peer(self) -> None:
        """
        A stream without a line for too long is lost; any line shows that it is not, and so does a good part
        of a long one.
        """
        followed = Followed(read_timeout=5.0, retry=1.0)
        response = followed.asked.reply()
        for progress in (":\n", "\r", "data: a\nda", "t" * 1024, "a" * 512, "a" * 512, "\n"):
            if progress != "a" * 512:
                followed.clock.advance(4.9)
            response.bring(progress)
        followed.clock.advance(4.9)
        assert not response.transport.cut
        followed.clock.advance(0.2)
        assert response.transport.cut
        assert isinstance(followed.source.last_error, PeerSilent)
        # What the connection says when it is cut says nothing new.
        response.end(ConnectionLost())
        assert len(followed.errors) == 1
        followed.again(1.0)

    def test_drip(self) -> None:
        """
        A line that grows byte by byte and never ends does not keep a stream open.
        """
        followed = Followed(read_timeout=5.0, retry=1.0)
        response = followed.asked.reply()
        for _ in range(5):
            response.bring("x")
            followed.clock.advance(0.99)
        assert not response.transport.cut
        response.bring("x")
        followed.clock.advance(0.1)
        assert response.transport.cut
        assert isinstance(followed.source.last_error, PeerSilent)

    def test_peer_that_waits(self) -> None:
        """
        A peer that has to wait for the program is not silent; when it is read from again it has its time.
        """
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        followed = Followed(read_timeout=15.0, event_received=received)
        response = followed.asked.reply()
        response.bring("data: a\n\n")
        followed.clock.pump([1.0] * 44)
        assert response.transport.paused
        assert not followed.errors
        work[0].callback(None)
        followed.clock.advance(14.9)
        assert not followed.errors
        followed.clock.advance(0.2)
        assert [type(error) for error in followed.errors] == [PeerSilent]
        assert response.transport.cut

    @pytest.mark.parametrize("push", [True, False])
    def test_slow_program_and_streams_that_end(self, push: bool) -> None:
        """
        A server that ends its streams is not asked again until the program has what came: each stream would
        bring one read more.
        """
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        options: dict[str, Any] = {"event_received": received} if push else {}
        followed = Followed(push=push, **options)
        first = None if push else outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        response = followed.asked.reply()
        response.bring("id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
        response.end()
        followed.clock.advance(60)
        assert len(followed.agent.requests) == 1
        if push:
            work[0].callback(None)
            assert len(followed.agent.requests) == 1
            work[1].callback(None)
        else:
            assert first
            outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        assert len(followed.agent.requests) == 2
        assert followed.asked.headers["last-event-id"] == b"2"

    def test_closed_by_a_slow_program(self) -> None:
        """
        Nothing is asked for behind the end.
        """
        followed = Followed(event_received=lambda event: Deferred())
        response = followed.asked.reply()
        response.bring("data: a\n\ndata: b\n\n")
        response.end()
        followed.clock.advance(60)
        followed.source.close()
        followed.clock.advance(60)
        assert len(followed.agent.requests) == 1

    def test_on_error_that_fails(self) -> None:
        """
        It is logged, and the next attempt comes.
        """

        def fail(error: Exception) -> None:
            raise RuntimeError("no")

        clock, agent = Clock(), FakeAgent()
        source = EventSource("http://a/", reactor=clock, agent=agent, on_error=fail)
        source.start()
        with capturedLogs() as logged:
            agent.requests[0].lose()
        assert [event["log_format"] for event in logged] == ["on_error failed"]
        clock.advance(3)
        assert len(agent.requests) == 2

    @pytest.mark.parametrize("opened", [False, True])
    @pytest.mark.parametrize(
        ("error", "says"),
        [
            (DNSLookupError("no such host"), "no such host"),
            (
                OpenSSLError([("SSL routines", "", "certificate verify failed")]),
                ": the server's certificate is not trusted",
            ),
            (OpenSSLError([]), "TLS failed (no reason given)"),
            (OpenSSLError(-1, "Unexpected EOF"), "TLS failed (Unexpected EOF)"),
            (VerificationError([DNSMismatch(DNS_ID("x"))]), ": the server's certificate is for another host"),
            (SchemeNotSupported("what?"), "what?"),
            (OSError(113, "No route to host"), "No route to host"),
            (ParseError("wrong number of parts", b"x"), "wrong number of parts"),
            (BadResponseVersion("x", b"y"), "no HTTP"),
            (KeyError("y"), "no HTTP"),
            (ZeroDivisionError(), "ZeroDivisionError"),
        ],
    )
    def test_errors_have_one_root(self, opened: bool, error: Exception, says: str) -> None:
        """
        Whatever an agent raises, the loop raises an ``SSEError`` that says where and what, and has it as its
        cause.
        """
        followed = Followed(push=False, max_attempts=1)
        outcome = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        if opened:
            followed.asked.reply().end(ResponseFailed([Failure(error)]))
        else:
            followed.asked.lose(error)
        (raised,) = outcome
        assert isinstance(raised, SSEError)
        assert raised is followed.source.last_error is followed.errors[0]
        assert raised.__cause__ is error
        assert str(raised).startswith("https://example.org/events: ") and says in str(raised)

    @pytest.mark.parametrize("redirected", [False, True])
    def test_https_without_tls(self, redirected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Where Twisted has no TLS, HTTPS ends the source with what to install, also behind a redirect.
        """
        monkeypatch.setitem(sys.modules, "OpenSSL", None)
        agent = FakeAgent()
        monkeypatch.setattr("txsse.client.following.Agent", lambda *args, **options: agent)
        scheme = "http" if redirected else "https"
        source = EventSource(f"{scheme}://example.org/", reactor=MemoryReactorClock())
        outcome = outcome_of(Deferred.fromCoroutine(source.__anext__()))
        if redirected:
            agent.requests[0].reply(302, {"Location": "https://example.org/"})
        (error,) = outcome
        assert isinstance(error, ConnectionFailed)
        assert str(error) == "https://example.org/: HTTPS needs pyOpenSSL: pip install 'txsse[tls]'"
        assert source.ready_state is ReadyState.CLOSED
        assert len(agent.requests) == redirected

    def test_own_agent_for_https(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        An agent of the program's own may have TLS from elsewhere.
        """
        monkeypatch.setitem(sys.modules, "OpenSSL", None)
        assert Followed().asked.uri == "https://example.org/events"

    def test_agent_that_raises(self) -> None:
        """
        An agent that raises before it returns a Deferred is one that failed.
        """
        followed = Followed(retry=1.0)
        followed.agent.request = None  # type: ignore[method-assign, assignment]
        followed.asked.lose()
        followed.clock.advance(1.0)
        assert [type(error) for error in followed.errors] == [ConnectionFailed, InvalidResponse]
        assert followed.source.ready_state is ReadyState.CONNECTING

    @pytest.mark.parametrize("error", [ValueError("abc"), AttributeError("x"), KeyError("y")])
    def test_parser_that_stumbles(self, error: Exception) -> None:
        """
        What Twisted's parser falls over is told as what it is.
        """
        followed = Followed()
        followed.asked.lose(ResponseFailed([Failure(error)]))
        assert isinstance(followed.errors[0], InvalidResponse)
        assert str(error) in str(followed.errors[0])

    def test_slow_program_and_early_bytes(self) -> None:
        """
        What came before the program wanted it makes the server wait as well.
        """
        followed = Followed(event_received=lambda event: Deferred())
        response = followed.asked.reply(early=b"data: a\n\ndata: b\n\n")
        assert response.transport.paused

    def test_comments_alone(self) -> None:
        """
        Where nothing is to be had, nobody is woken.
        """
        followed = Followed(push=False)
        got = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        response = followed.asked.reply()
        response.bring(": a\n\n")
        assert not got
        response.bring("data: b\n\n")
        assert got[0].data == "b"

    def test_redirect_that_is_no_text(self) -> None:
        """
        Bytes that are not UTF-8 are taken for Latin-1.
        """
        followed = Followed()
        response = FakeResponse(302, {})
        response.headers.setRawHeaders(b"Location", [b"/\xe9"])
        followed.asked.answer.callback(response)
        assert followed.asked.uri == "https://example.org/%C3%A9"

    def test_consumer_that_gives_up_between_two_turns(self) -> None:
        """
        Whoever pulls for long waits for the reactor's next turn, and may stop waiting.
        """
        followed = Followed(push=False)
        first = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        followed.asked.reply().bring("data: a\n\n" * 100)
        assert first
        followed.clock.advance(1)
        pulling: Deferred[Any] = Deferred()
        for _ in range(10):
            pulling = Deferred.fromCoroutine(followed.source.__anext__())
            if not pulling.called:
                break
        calls = len(followed.clock.getDelayedCalls())
        outcome = outcome_of(pulling)
        pulling.cancel()
        assert isinstance(outcome[0], CancelledError)
        assert len(followed.clock.getDelayedCalls()) == calls - 1
        again = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        followed.clock.advance(0)
        assert again[0].data == "a"


class DroppedTests:
    def drop(self, followed: Followed) -> weakref.ref[EventSource]:
        """
        Hold no reference to it any more.
        """
        dropped = weakref.ref(followed.source)
        del followed.source
        gc.collect()
        followed.clock.advance(0)
        return dropped

    def test_iterated_over(self) -> None:
        """
        It is closed: nobody can take its events any more.
        """
        followed = Followed(push=False)
        closed = outcome_of(followed.source.when_closed())
        pulling = Deferred.fromCoroutine(followed.source.__anext__())
        response = followed.asked.reply()
        pulling.addErrback(lambda failure: None)
        pulling.cancel()
        assert not response.transport.cut
        assert self.drop(followed)() is None
        assert response.transport.cut
        assert closed == [None]
        assert followed.clock.getDelayedCalls() == []

    def test_waited_for(self) -> None:
        """
        It stays: whoever waits for its next event holds it.
        """
        followed = Followed(push=False)
        got = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        assert self.drop(followed)() is not None
        followed.asked.reply().bring("data: a\n\n")
        assert got[0].data == "a"

    def test_pushes(self) -> None:
        """
        One with callbacks stays.
        """
        followed = Followed()
        response = followed.asked.reply()
        self.drop(followed)
        response.bring("data: a\n\n")
        assert followed.texts == ["a"]

    def test_never_begun(self) -> None:
        """
        It leaves the reactor alone.
        """
        clock = Clock()
        EventSource("http://example.org/", agent=FakeAgent(), reactor=clock)
        gc.collect()
        assert clock.getDelayedCalls() == []

    def test_in_any_thread(self) -> None:
        """
        A reactor that knows threads is called as from another one.
        """

        @implementer(IReactorFromThreads)
        class Reactor(Clock):
            from_threads: ClassVar[list[Any]] = []

            def callFromThread(self, callable: Any, *args: object, **kwargs: object) -> None:  # noqa: N802
                self.from_threads.append(callable)

        agent = FakeAgent()
        source = EventSource("http://example.org/", agent=agent, reactor=Reactor())
        source.start()
        del source
        gc.collect()
        (call,) = Reactor.from_threads
        assert not agent.requests[0].cancelled
        call()
        assert agent.requests[0].cancelled


class CloseTests:
    @pytest.mark.parametrize("state", ["idle", "connecting", "open", "waiting"])
    def test_in_every_state(self, state: str) -> None:
        """
        It leaves nothing behind, and asks for nothing more.
        """
        followed = Followed()
        if state == "idle":
            source = EventSource("http://example.org/", agent=followed.agent, reactor=followed.clock)
            followed.source.close()
        else:
            source = followed.source
        response = followed.asked.reply() if state in ("open", "waiting") else None
        if state == "waiting" and response is not None:
            response.end()
        opened, closed = outcome_of(source.when_open()), outcome_of(source.when_closed())
        source.close()
        source.close()
        source.start()
        assert source.ready_state is ReadyState.CLOSED
        assert closed == [None]
        assert opened == [None] if state == "open" else isinstance(opened[0], StreamEnded)
        if state == "connecting":
            assert followed.asked.cancelled
        if state == "open" and response is not None:
            assert response.transport.cut
        followed.clock.advance(1000)
        assert len(followed.agent.requests) == 1
        assert followed.clock.getDelayedCalls() == []


class IterationTests:
    def take(self, followed: Followed, texts: list[str]) -> Deferred[None]:
        async def take() -> None:
            async for event in followed.source:
                texts.append(event.data)

        return Deferred.fromCoroutine(take())

    def test_pulled(self) -> None:
        """
        Each step waits for an event, over all connections, until the source is closed.
        """
        followed = Followed(push=False, retry=1.0)
        texts: list[str] = []
        done = outcome_of(self.take(followed, texts))
        response = followed.asked.reply()
        response.bring("data: a\n\ndata: b\n\n")
        response.end()
        followed.again(1.0).reply().bring("data: c\n\n")
        assert (texts, done) == (["a", "b", "c"], [])
        followed.source.close()
        assert done == [None]

    def test_consumer_that_is_slow(self) -> None:
        """
        While it is busy the server waits, and resuming begins behind what it has got.
        """
        followed = Followed(push=False)
        response = followed.asked.reply()
        response.bring("id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
        assert response.transport.paused
        assert followed.source.last_event_id == ""
        assert outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))[0].data == "a"
        assert (response.transport.paused, followed.source.last_event_id) == (True, "1")
        assert outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))[0].data == "b"
        assert (response.transport.paused, followed.source.last_event_id) == (False, "2")

    def test_refused(self) -> None:
        """
        The error that ends it is raised, behind the events that came, and once.
        """
        followed = Followed(push=False, max_event_size=10)
        followed.asked.reply().bring("data: a\n\ndata: " + "x" * 100)
        texts: list[str] = []
        (error,) = outcome_of(self.take(followed, texts))
        assert texts == ["a"]
        assert isinstance(error, EventTooLarge)
        assert outcome_of(self.take(followed, texts)) == [None]

    def test_two_consumers(self) -> None:
        """
        There is one, and another is told so.
        """
        followed = Followed(push=False)
        self.take(followed, [])
        (error,) = outcome_of(self.take(followed, []))
        assert isinstance(error, RuntimeError)

    def test_with_callbacks(self) -> None:
        """
        What is pushed cannot be pulled too.
        """
        (error,) = outcome_of(self.take(Followed(), []))
        assert isinstance(error, TypeError)

    def test_consumer_that_gives_up(self) -> None:
        """
        Another one may take its place.
        """
        followed = Followed(push=False)
        texts: list[str] = []
        first = self.take(followed, texts)
        outcome_of(first)
        first.cancel()
        self.take(followed, texts)
        followed.asked.reply().bring("data: a\n\n")
        assert texts == ["a"]
