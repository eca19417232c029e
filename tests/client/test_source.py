"""
An event source with a fake agent, whose replies the tests supply.

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
    InvalidResponse,
    PeerSilent,
    SSEError,
    StreamEnded,
    StreamRefused,
)
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import EventTooLarge


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: high)


class RequestTests:
    def test_fake_agent(self) -> None:
        """
        The fake agent of these tests implements IAgent.
        """
        verifyObject(IAgent, FakeAgent())

    def test_headers(self) -> None:
        """
        A first request accepts an event stream, bypasses caches and has no Last-Event-ID.
        """
        request = Followed().request
        assert (request.method, request.uri) == ("GET", "https://example.org/events")
        assert request.headers == {"accept": b"text/event-stream", "cache-control": b"no-cache"}

    @pytest.mark.parametrize(
        "headers", [{"X-Own": "1", "accept": "text/*"}, Headers({"X-Own": ["1"], "Accept": ["text/*"]})]
    )
    def test_headers_of_the_program(self, headers: Any) -> None:
        """
        The header fields of the program are added to the request, and replace the default ones of the same
        name.
        """
        request = Followed(headers=headers).request
        assert request.headers == {"x-own": b"1", "accept": b"text/*", "cache-control": b"no-cache"}

    def test_last_event_id(self) -> None:
        """
        The client sends Last-Event-ID in UTF-8.
        """
        followed = Followed(last_event_id="ä 1")
        assert followed.request.headers["last-event-id"] == "ä 1".encode()
        assert followed.source.last_event_id == "ä 1"

    def test_method_and_body(self) -> None:
        """
        The client sends a request's method and body, again with each attempt.
        """
        followed = Followed(method="POST", body=b"{}", retry=1.0)
        assert (followed.request.method, followed.request.body) == ("POST", b"{}")
        followed.request.lose()
        assert followed.next_request(1.0).body == b"{}"

    @pytest.mark.parametrize("options", [{"method": "GE T"}, {"method": ""}, {"headers": {"ä": "b"}}])
    def test_invalid_method_or_header(self, options: dict[str, Any]) -> None:
        """
        An invalid method or header name is rejected by the constructor.
        """
        with pytest.raises(ValueError, match="is not"):
            EventSource("http://a/", **options)

    def test_start(self) -> None:
        """
        Creating a source sends no request, and starting it twice sends one.
        """
        agent = FakeAgent()
        source = EventSource("http://example.org/", agent=agent, reactor=Clock())
        assert (agent.requests, source.ready_state) == ([], ReadyState.CONNECTING)
        source.start()
        source.start()
        assert len(agent.requests) == 1

    def test_invalid_url(self) -> None:
        """
        An invalid URL is rejected by the constructor.
        """
        with pytest.raises(ValueError, match="not an HTTP URL"):
            EventSource("/events")


class OpenTests:
    def test_open(self) -> None:
        """
        A good reply opens the source before the first event.
        """
        followed = Followed()
        opened = outcome_of(followed.source.when_open())
        assert (followed.source.ready_state, opened) == (0, [])
        followed.request.reply()
        assert (followed.source.ready_state, opened) == (1, [None])
        assert outcome_of(followed.source.when_open()) == [None]
        assert "open" in repr(followed.source)

    def test_refused(self) -> None:
        """
        A refusal ends the source, and every way to observe the end gets its error.
        """
        followed = Followed()
        opened, closed = outcome_of(followed.source.when_open()), outcome_of(followed.source.when_closed())
        response = followed.request.reply(404)
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
        After a status listed in reconnect_on, the client waits for the seconds in Retry-After.
        """
        followed = Followed(reconnect_on=[503], retry=1.0)
        followed.request.reply(503, {"Retry-After": "30"}).end()
        assert followed.source.ready_state is ReadyState.CONNECTING
        followed.next_request(30.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_retry_after_a_date(self) -> None:
        """
        The client compares a date in Retry-After with the wall clock, even after it was set.
        """
        followed = Followed(reconnect_on=[503], retry=1.0)
        followed.clock.step(1_000_000_000 - 60)
        followed.request.reply(503, {"Retry-After": "Sun, 09 Sep 2001 01:46:40 GMT"}).end()
        followed.next_request(60.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_redirect(self) -> None:
        """
        The client follows a redirect, and reconnects to the new URL.
        """
        followed = Followed(retry=1.0)
        first = followed.request.reply(307, {"Location": "https://other.example/"})
        assert first.transport.cut
        assert followed.request.uri == "https://other.example/"
        assert followed.source.url == "https://example.org/events"
        followed.request.reply().end()
        assert followed.source.url == "https://other.example/"
        assert followed.next_request(1.0).uri == "https://other.example/"

    @pytest.mark.parametrize("silent", [False, True])
    def test_unreachable_server_after_a_redirect(self, silent: bool) -> None:
        """
        If the server that a redirect led to becomes unreachable, the next attempt goes to the first URL, with
        all header fields and the last event ID.
        """
        followed = Followed(retry=1.0, headers={"X-Api-Key": "secret"}, connect_timeout=5.0)
        followed.request.reply(307, {"Location": "https://other.example/"})
        response = followed.request.reply()
        response.bring("id: 1\ndata: a\n\n")
        response.end()
        again = followed.next_request(1.0)
        assert again.uri == "https://other.example/"
        if silent:
            followed.clock.advance(5.1)
        else:
            again.lose(ConnectionRefusedError())
        assert followed.source.url == "https://example.org/events"
        followed.clock.advance(2.0)
        assert followed.request.uri == "https://example.org/events"
        assert followed.request.headers["x-api-key"] == b"secret"
        assert followed.request.headers["last-event-id"] == b"1"
        # Another redirect to the unreachable server does not change that.
        followed.request.reply(307, {"Location": "https://other.example/"})
        followed.request.lose(ConnectionRefusedError())
        followed.clock.advance(4.0)
        followed.request.reply(307, {"Location": "https://third.example/"})
        followed.request.reply().bring("data: b\n\n")
        assert followed.source.url == "https://third.example/"
        assert followed.texts == ["a", "b"]

    def test_unreachable_server_after_a_redirected_post(self) -> None:
        """
        After the redirect of a POST, the client never repeats the POST: it may have had its effect.
        """
        followed = Followed(retry=1.0, method="POST", body=b"x")
        followed.request.reply(303, {"Location": "/answer"})
        followed.request.reply().end()
        for seconds in (1.0, 2.0):
            followed.next_request(seconds)
            assert (followed.request.method, followed.request.uri) == ("GET", "https://example.org/answer")
            followed.request.lose()

    @pytest.mark.parametrize(("trusted", "sent"), [([], None), (["https://other.example"], b"secret")])
    def test_headers_after_a_redirect(self, trusted: list[str], sent: bytes | None) -> None:
        """
        After a redirect to another origin, that origin receives the program's header fields only if it is
        trusted.
        """
        followed = Followed(headers={"X-Api-Key": "secret"}, trusted_origins=trusted)
        assert followed.request.headers["x-api-key"] == b"secret"
        followed.request.reply(307, {"Location": "https://other.example/"})
        assert followed.request.headers.get("x-api-key") == sent
        assert followed.request.headers["accept"] == b"text/event-stream"

    def test_redirect_loop(self) -> None:
        """
        The client follows twenty redirects; one more ends the source.
        """
        followed = Followed()
        for _ in range(21):
            followed.request.reply(302, {"Location": "/events"})
        assert len(followed.agent.requests) == 21
        assert isinstance(followed.source.last_error, StreamRefused)
        assert "more than 20 redirects" in str(followed.source.last_error)
        assert followed.source.ready_state is ReadyState.CLOSED

    def test_closed_when_it_opens(self) -> None:
        """
        A callback of when_open may close the source; the connection is then aborted.
        """
        followed = Followed()
        followed.source.when_open().addCallback(lambda _: followed.source.close())
        response = followed.request.reply()
        assert response.transport.cut
        assert followed.source.ready_state is ReadyState.CLOSED


class EventTests:
    def test_delivered_when_complete(self) -> None:
        """
        The source delivers each event when its last byte has arrived.
        """
        followed = Followed()
        response = followed.request.reply()
        response.bring("data: a\n\ndata: b\n")
        assert followed.texts == ["a"]
        response.bring("\n")
        assert followed.texts == ["a", "b"]

    def test_listeners(self) -> None:
        """
        A listener receives the events of its type, and event_received those of all types.
        """
        followed = Followed()
        heard: list[tuple[str, str]] = []
        for name in ("message", "x"):
            followed.source.add_listener(name, lambda event, name=name: heard.append((name, event.data)))  # type: ignore[misc]
        followed.request.reply().bring("data: 1\n\nevent: x\ndata: 2\n\nevent: y\ndata: 3\n\n")
        assert heard == [("message", "1"), ("x", "2")]
        assert followed.texts == ["1", "2", "3"]

    def test_closed_inside_a_callback(self) -> None:
        """
        A callback that closes the source prevents the delivery of later events of the same read.
        """
        followed: Followed = Followed(
            event_received=lambda event: (texts.append(event.data), followed.source.close())  # type: ignore[func-returns-value]
        )
        texts: list[str] = []
        response = followed.request.reply()
        response.bring("data: a\n\ndata: b\n\n")
        assert texts == ["a"]
        assert response.transport.cut
        assert outcome_of(followed.source.when_closed()) == [None]
        assert followed.clock.getDelayedCalls() == []

    def test_callback_that_fails(self) -> None:
        """
        The source delivers the next event after a callback has failed.
        """
        texts: list[str] = []

        def received(event: Any) -> None:
            texts.append(event.data)
            raise ZeroDivisionError

        Followed(event_received=received).request.reply().bring("data: a\n\ndata: b\n\n")
        assert texts == ["a", "b"]

    def test_asynchronous_callback(self) -> None:
        """
        While an asynchronous callback runs, the source pauses the server and holds back further events.
        """
        working: list[Deferred[None]] = []
        texts: list[str] = []

        def received(event: Any) -> Deferred[None]:
            texts.append(event.data)
            working.append(Deferred())
            return working[-1]

        response = Followed(event_received=received).request.reply()
        response.bring("data: a\n\ndata: b\n\n")
        assert (texts, response.transport.paused) == (["a"], True)
        working[0].callback(None)
        assert (texts, response.transport.paused) == (["a", "b"], True)
        working[1].errback(Failure(ZeroDivisionError()))
        assert response.transport.paused is False
        response.bring("data: c\n\n")
        assert texts == ["a", "b", "c"]

    def test_many_events_in_one_read(self) -> None:
        """
        The source yields to the reactor after ten milliseconds of callbacks.
        """
        followed: Followed = Followed(event_received=lambda event: followed.clock.advance(0.001))
        response = followed.request.reply()
        response.bring("data\n\n" * 1000)
        assert response.transport.paused
        assert 0 < len(followed.source._delivery.pending) < 1000
        for _ in range(100):
            followed.clock.advance(0)
        assert not followed.source._delivery.pending
        assert not response.transport.paused

    def test_too_large(self) -> None:
        """
        An event that is too large ends the source after the events before it: it would arrive again.
        """
        followed = Followed(max_event_size=10)
        response = followed.request.reply()
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
        The client reconnects after the stream's retry time with its last event ID, however the stream ended.
        """
        followed = Followed()
        response = followed.request.reply()
        response.bring("retry: 500\nid: 7\ndata: a\n\ndata: half an event\n")
        response.end(reason)
        assert followed.source.ready_state is ReadyState.CONNECTING
        lost = ConnectionFailed if isinstance(reason, ResponseFailed) else StreamEnded
        assert isinstance(followed.errors[0], lost)
        assert str(followed.errors[0]).startswith("https://example.org/events: the stream ")
        assert followed.source.retry == 0.5
        again = followed.next_request(0.5)
        assert again.headers["last-event-id"] == b"7"
        again.reply().bring("data: b\n\n")
        assert followed.texts == ["a", "b"]
        assert followed.source.last_event_id == "7"

    def test_id_without_data(self) -> None:
        """
        The client resumes from an id in a block without data, and an empty id resets it.
        """
        followed = Followed(retry=1.0)
        response = followed.request.reply()
        response.bring("id: 8\n\n")
        assert followed.source.last_event_id == "8"
        response.end()
        response = followed.next_request(1.0).reply()
        assert followed.request.headers["last-event-id"] == b"8"
        response.bring("id\ndata: x\n\n")
        response.end()
        assert "last-event-id" not in followed.next_request(1.0).headers

    @pytest.mark.parametrize("too_long", ["x" * 8176, "\u2028" * 2726])
    def test_id_too_long(self, too_long: str) -> None:
        """
        An id that is too long for servers is not sent: the client resumes from the id before it, and logs one
        warning.
        """
        followed = Followed(retry=1.0)
        response = followed.request.reply()
        with capturedLogs() as logged:
            response.bring("id: 1\ndata: a\n\n")
            response.bring(f"id: {too_long}\ndata: b\n\n")
            assert followed.source.last_event_id == too_long
            response.end()
            response = followed.next_request(1.0).reply()
            assert followed.request.headers["last-event-id"] == b"1"
            response.bring(f"id: {too_long}\n\n")
            response.end()
            response = followed.next_request(2.0).reply()
            assert followed.request.headers["last-event-id"] == b"1"
        assert [event["log_level"] for event in logged] == [LogLevel.warn]
        response.bring(f"id: {too_long[:2]}\n\n")
        response.end()
        assert followed.next_request(4.0).headers["last-event-id"] == too_long[:2].encode()

    def test_longest_id(self) -> None:
        """
        The client sends a Last-Event-ID header of up to eight kilobytes.
        """
        longest = "x" * (8192 - len("Last-Event-ID: \r\n"))
        assert Followed(last_event_id=longest).request.headers["last-event-id"] == longest.encode()
        assert "last-event-id" not in Followed(last_event_id=longest + "x").request.headers

    def test_byte_order_mark_of_each_stream(self) -> None:
        """
        The client ignores a byte order mark at the beginning of each stream.
        """
        followed = Followed(retry=1.0)
        followed.request.reply().end()
        followed.next_request(1.0).reply().bring(b"\xef\xbb\xbfdata: a\n\n")
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
        The delay doubles with each failed attempt; the program receives the cause, without Twisted's
        wrappers.
        """
        followed = Followed(retry=1.0, max_retry=5.0)
        for seconds in (1.0, 2.0, 4.0, 5.0, 5.0):
            followed.request.lose(error)
            assert isinstance(followed.source.last_error, ConnectionFailed)
            assert isinstance(followed.source.last_error.__cause__, ConnectionRefusedError)
            followed.next_request(seconds)
        assert len(followed.errors) == 5

    def test_stream_that_lasts(self) -> None:
        """
        A stream that lasts for reset_backoff_after resets the delay; a shorter one does not.
        """
        followed = Followed(retry=1.0, reset_backoff_after=10.0)
        followed.request.lose()
        followed.next_request(1.0).reply().end()
        response = followed.next_request(2.0).reply()
        followed.clock.advance(9.9)
        response.end()
        response = followed.next_request(4.0).reply()
        followed.clock.advance(10.1)
        response.end()
        followed.next_request(1.0)

    def test_short_streams_that_deliver(self) -> None:
        """
        A stream that delivered an event resets the delay to the stream's retry time, and the count of
        attempts.
        """
        followed = Followed(retry=1.0, max_attempts=3)
        followed.request.lose()
        followed.next_request(1.0).lose()
        response = followed.next_request(2.0).reply()
        for _ in range(10):
            response.bring("retry: 1500\nid: 1\ndata: a\n\n")
            response.end()
            response = followed.next_request(1.5).reply()
        # A stream without an event does not reset them.
        response.bring(": a\n\nretry: 1500\n\n")
        response.end()
        followed.next_request(3.0).reply().end()
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
    def test_limits_of_retry_times(self, options: dict[str, Any], asks: int, waits: float) -> None:
        """
        The client limits the retry time of a stream between 0.1 seconds and max_retry, or the program's own
        retry.
        """
        followed = Followed(**options)
        for _ in range(3):
            response = followed.request.reply()
            response.bring(f"retry: {asks}\ndata: a\n\n")
            response.end()
            followed.next_request(waits)

    def test_max_attempts(self) -> None:
        """
        After max_attempts failed attempts the source ends with the last error.
        """
        followed = Followed(retry=1.0, max_attempts=3)
        closed = outcome_of(followed.source.when_closed())
        followed.request.lose()
        followed.next_request(1.0).lose()
        followed.next_request(2.0).lose()
        assert isinstance(closed[0], ConnectionFailed)
        assert followed.clock.getDelayedCalls() == []

    def test_connect_timeout(self) -> None:
        """
        An attempt without a reply within connect_timeout is cancelled, and counts as failed.
        """
        followed = Followed(connect_timeout=5.0, retry=1.0)
        first = followed.request
        followed.clock.advance(4.9)
        assert not first.cancelled
        followed.clock.advance(0.2)
        assert first.cancelled
        assert isinstance(followed.source.last_error, PeerSilent)
        followed.next_request(1.0).reply()
        assert followed.source.ready_state is ReadyState.OPEN

    def test_read_timeout(self) -> None:
        """
        A stream without a line for read_timeout is lost; any line, or 1 KiB of a long one, restarts the
        time-out.
        """
        followed = Followed(read_timeout=5.0, retry=1.0)
        response = followed.request.reply()
        for progress in (":\n", "\r", "data: a\nda", "t" * 1024, "a" * 512, "a" * 512, "\n"):
            if progress != "a" * 512:
                followed.clock.advance(4.9)
            response.bring(progress)
        followed.clock.advance(4.9)
        assert not response.transport.cut
        followed.clock.advance(0.2)
        assert response.transport.cut
        assert isinstance(followed.source.last_error, PeerSilent)
        # The error of the aborted connection is not reported.
        response.end(ConnectionLost())
        assert len(followed.errors) == 1
        followed.next_request(1.0)

    def test_single_bytes_and_read_timeout(self) -> None:
        """
        A line that grows byte by byte does not restart read_timeout.
        """
        followed = Followed(read_timeout=5.0, retry=1.0)
        response = followed.request.reply()
        for _ in range(5):
            response.bring("x")
            followed.clock.advance(0.99)
        assert not response.transport.cut
        response.bring("x")
        followed.clock.advance(0.1)
        assert response.transport.cut
        assert isinstance(followed.source.last_error, PeerSilent)

    def test_read_timeout_while_paused(self) -> None:
        """
        The read_timeout does not apply while the client pauses the server, and restarts when it resumes.
        """
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        followed = Followed(read_timeout=15.0, event_received=received)
        response = followed.request.reply()
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
    def test_no_reconnection_before_delivery(self, push: bool) -> None:
        """
        A client reconnects only when the program has taken all events: each stream would bring one read more.
        """
        work: list[Deferred[None]] = []

        def received(event: ServerSentEvent) -> Deferred[None]:
            work.append(Deferred())
            return work[-1]

        options: dict[str, Any] = {"event_received": received} if push else {}
        followed = Followed(push=push, **options)
        first = None if push else outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        response = followed.request.reply()
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
        assert followed.request.headers["last-event-id"] == b"2"

    def test_closed_by_a_slow_program(self) -> None:
        """
        A program that closes the source while events are pending stops the reconnection.
        """
        followed = Followed(event_received=lambda event: Deferred())
        response = followed.request.reply()
        response.bring("data: a\n\ndata: b\n\n")
        response.end()
        followed.clock.advance(60)
        followed.source.close()
        followed.clock.advance(60)
        assert len(followed.agent.requests) == 1

    def test_on_error_that_fails(self) -> None:
        """
        An exception in on_error is logged, and the client still reconnects.
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
            (BadResponseVersion("x", b"y"), "not HTTP"),
            (KeyError("y"), "not HTTP"),
            (ZeroDivisionError(), "ZeroDivisionError"),
        ],
    )
    def test_exceptions_of_the_agent(self, opened: bool, error: Exception, says: str) -> None:
        """
        Any exception of an agent is raised as an SSEError that names URL and problem; the exception is its
        cause.
        """
        followed = Followed(push=False, max_attempts=1)
        outcome = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        if opened:
            followed.request.reply().end(ResponseFailed([Failure(error)]))
        else:
            followed.request.lose(error)
        (raised,) = outcome
        assert isinstance(raised, SSEError)
        assert raised is followed.source.last_error is followed.errors[0]
        assert raised.__cause__ is error
        assert str(raised).startswith("https://example.org/events: ") and says in str(raised)

    @pytest.mark.parametrize("redirected", [False, True])
    def test_https_without_tls(self, redirected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without pyOpenSSL, HTTPS ends the source with an error that says what to install, also after a
        redirect.
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

    def test_https_by_another_agent(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Without pyOpenSSL, a source still sends HTTPS requests through an agent that the program supplies.
        """
        monkeypatch.setitem(sys.modules, "OpenSSL", None)
        assert Followed().request.uri == "https://example.org/events"

    def test_agent_that_raises(self) -> None:
        """
        An agent that raises an exception instead of returning a Deferred counts as a failed attempt.
        """
        followed = Followed(retry=1.0)
        followed.agent.request = None  # type: ignore[method-assign, assignment]
        followed.request.lose()
        followed.clock.advance(1.0)
        assert [type(error) for error in followed.errors] == [ConnectionFailed, InvalidResponse]
        assert followed.source.ready_state is ReadyState.CONNECTING

    @pytest.mark.parametrize("error", [ValueError("abc"), AttributeError("x"), KeyError("y")])
    def test_exceptions_of_the_http_parser(self, error: Exception) -> None:
        """
        An exception of Twisted's HTTP parser is reported as InvalidResponse.
        """
        followed = Followed()
        followed.request.lose(ResponseFailed([Failure(error)]))
        assert isinstance(followed.errors[0], InvalidResponse)
        assert str(error) in str(followed.errors[0])

    def test_slow_callback_and_early_events(self) -> None:
        """
        The source pauses the server for a slow callback also if events arrived together with the head.
        """
        followed = Followed(event_received=lambda event: Deferred())
        response = followed.request.reply(early=b"data: a\n\ndata: b\n\n")
        assert response.transport.paused

    def test_comments_without_events(self) -> None:
        """
        An iteration over a source does not end its wait when a comment arrives.
        """
        followed = Followed(push=False)
        got = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        response = followed.request.reply()
        response.bring(": a\n\n")
        assert not got
        response.bring("data: b\n\n")
        assert got[0].data == "b"

    def test_location_in_latin_1(self) -> None:
        """
        A Location that is not UTF-8 is decoded as Latin-1.
        """
        followed = Followed()
        response = FakeResponse(302, {})
        response.headers.setRawHeaders(b"Location", [b"/\xe9"])
        followed.request.answer.callback(response)
        assert followed.request.uri == "https://example.org/%C3%A9"

    def test_cancelled_between_two_slices(self) -> None:
        """
        An iteration that waits for the reactor's next turn can be cancelled, and then resumed.
        """
        followed = Followed(push=False)
        first = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        followed.request.reply().bring("data: a\n\n" * 100)
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
        Release the test's reference to the source, and collect garbage.
        """
        dropped = weakref.ref(followed.source)
        del followed.source
        gc.collect()
        followed.clock.advance(0)
        return dropped

    def test_iterated_over(self) -> None:
        """
        A source that was iterated over is closed when the program holds no reference to it.
        """
        followed = Followed(push=False)
        closed = outcome_of(followed.source.when_closed())
        pulling = Deferred.fromCoroutine(followed.source.__anext__())
        response = followed.request.reply()
        pulling.addErrback(lambda failure: None)
        pulling.cancel()
        assert not response.transport.cut
        assert self.drop(followed)() is None
        assert response.transport.cut
        assert closed == [None]
        assert followed.clock.getDelayedCalls() == []

    def test_waiting_iteration(self) -> None:
        """
        A source stays open while an iteration waits for its next event.
        """
        followed = Followed(push=False)
        got = outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))
        assert self.drop(followed)() is not None
        followed.request.reply().bring("data: a\n\n")
        assert got[0].data == "a"

    def test_callbacks(self) -> None:
        """
        A source with callbacks stays open when the program holds no reference to it.
        """
        followed = Followed()
        response = followed.request.reply()
        self.drop(followed)
        response.bring("data: a\n\n")
        assert followed.texts == ["a"]

    def test_never_started(self) -> None:
        """
        A source that was never started does not use the reactor when it is collected.
        """
        clock = Clock()
        EventSource("http://example.org/", agent=FakeAgent(), reactor=clock)
        gc.collect()
        assert clock.getDelayedCalls() == []

    def test_collected_in_another_thread(self) -> None:
        """
        A source that is garbage-collected is closed through callFromThread.
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
        A source that is closed in any state leaves no timer, and sends no further request.
        """
        followed = Followed()
        if state == "idle":
            source = EventSource("http://example.org/", agent=followed.agent, reactor=followed.clock)
            followed.source.close()
        else:
            source = followed.source
        response = followed.request.reply() if state in ("open", "waiting") else None
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
            assert followed.request.cancelled
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

    def test_iteration(self) -> None:
        """
        An iteration receives the events of all connections until the source is closed.
        """
        followed = Followed(push=False, retry=1.0)
        texts: list[str] = []
        done = outcome_of(self.take(followed, texts))
        response = followed.request.reply()
        response.bring("data: a\n\ndata: b\n\n")
        response.end()
        followed.next_request(1.0).reply().bring("data: c\n\n")
        assert (texts, done) == (["a", "b", "c"], [])
        followed.source.close()
        assert done == [None]

    def test_slow_iteration(self) -> None:
        """
        While a program does not take events, the client pauses the server and resumes only from taken events.
        """
        followed = Followed(push=False)
        response = followed.request.reply()
        response.bring("id: 1\ndata: a\n\nid: 2\ndata: b\n\n")
        assert response.transport.paused
        assert followed.source.last_event_id == ""
        assert outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))[0].data == "a"
        assert (response.transport.paused, followed.source.last_event_id) == (True, "1")
        assert outcome_of(Deferred.fromCoroutine(followed.source.__anext__()))[0].data == "b"
        assert (response.transport.paused, followed.source.last_event_id) == (False, "2")

    def test_refused(self) -> None:
        """
        The iteration receives the events before the error, and raises the error once.
        """
        followed = Followed(push=False, max_event_size=10)
        followed.request.reply().bring("data: a\n\ndata: " + "x" * 100)
        texts: list[str] = []
        (error,) = outcome_of(self.take(followed, texts))
        assert texts == ["a"]
        assert isinstance(error, EventTooLarge)
        assert outcome_of(self.take(followed, texts)) == [None]

    def test_second_consumer(self) -> None:
        """
        A second iteration over one source raises RuntimeError while the first one waits.
        """
        followed = Followed(push=False)
        self.take(followed, [])
        (error,) = outcome_of(self.take(followed, []))
        assert isinstance(error, RuntimeError)

    def test_with_callbacks(self) -> None:
        """
        A source with callbacks cannot be iterated over.
        """
        (error,) = outcome_of(self.take(Followed(), []))
        assert isinstance(error, TypeError)

    def test_second_consumer_after_cancellation(self) -> None:
        """
        After an iteration was cancelled, another one receives the events.
        """
        followed = Followed(push=False)
        texts: list[str] = []
        first = self.take(followed, texts)
        outcome_of(first)
        first.cancel()
        self.take(followed, texts)
        followed.request.reply().bring("data: a\n\n")
        assert texts == ["a"]
