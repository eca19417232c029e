"""
A fake HTTP server without a network: it records the client's requests, and a test supplies each reply.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer
from zope.interface import implementer

from txsse.client.source import EventSource
from txsse.testing import WallClock

STREAM = {"Content-Type": "text/event-stream"}


@implementer(IPushProducer)
class FakeTransport:
    """
    The transport of a response's body.
    """

    def __init__(self) -> None:
        self.paused = False
        self.cut = False

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.cut = True

    def abortConnection(self) -> None:
        self.cut = True


class FakeResponse:
    """
    A response.

    :ivar body: the protocol that reads the body; ``None`` before the client reads it.
    :ivar early: the part of the body that arrives with the head.
    """

    def __init__(self, code: int, headers: dict[str, str]) -> None:
        self.code = code
        self.headers = Headers({name: [value] for name, value in headers.items()})
        self.transport = FakeTransport()
        self.body: Any = None
        self.early = b""

    def deliverBody(self, protocol: Any) -> None:  # noqa: N802
        self.body = protocol
        protocol.makeConnection(self.transport)
        if self.early:
            # As Twisted does with bytes received before the client reads the body.
            protocol.dataReceived(self.early)
            self.transport.resumeProducing()

    def bring(self, text: str | bytes) -> None:
        """
        Deliver some bytes of the body.
        """
        assert not self.transport.paused, "the client has paused the server"
        self.body.dataReceived(text.encode() if isinstance(text, str) else text)

    def end(self, reason: Exception | None = None) -> None:
        """
        End the body: properly, or with an error.
        """
        self.body.connectionLost(Failure(reason or ResponseDone()))


class FakeRequest:
    """
    A request that waits for its response.
    """

    def __init__(self, method: bytes, uri: bytes, headers: Headers, body: Any) -> None:
        self.method = method.decode()
        self.uri = uri.decode()
        self.headers = {name.decode().lower(): values[0] for name, values in headers.getAllRawHeaders()}
        self.body = b""
        self.cancelled = False
        self.answer: Deferred[Any] = Deferred(self._cancel)
        if body is not None:
            body.startProducing(self)
            assert body.length == len(self.body)

    def write(self, data: bytes) -> None:
        self.body += data

    def _cancel(self, _: object) -> None:
        self.cancelled = True

    def reply(
        self, code: int = 200, headers: dict[str, str] | None = None, early: bytes = b""
    ) -> FakeResponse:
        """
        Send a response.
        """
        response = FakeResponse(code, STREAM if headers is None else headers)
        response.early = early
        self.answer.callback(response)
        return response

    def lose(self, error: Exception | None = None) -> None:
        """
        Fail the request, as if the connection was lost.
        """
        self.answer.errback(Failure(error or ConnectionLost()))


@implementer(IAgent)
class FakeAgent:
    """
    An agent that records requests.

    :ivar requests: all requests, in order.
    """

    def __init__(self) -> None:
        self.requests: list[FakeRequest] = []

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,  # noqa: N803
    ) -> Deferred[Any]:
        request = FakeRequest(method, uri, headers or Headers(), bodyProducer)
        self.requests.append(request)
        return request.answer


class Followed:
    """
    An event source with its fake server, and the events and errors that it delivered.

    :ivar texts: the data of the events that were pushed.
    :ivar errors: the errors passed to ``on_error``.
    """

    def __init__(self, url: str = "https://example.org/events", *, push: bool = True, **options: Any) -> None:
        self.clock = WallClock()
        self.agent = FakeAgent()
        self.texts: list[str] = []
        self.errors: list[Exception] = []
        if push:
            options.setdefault("event_received", lambda event: self.texts.append(event.data))
        self.source = EventSource(
            url, reactor=self.clock, agent=self.agent, on_error=self.errors.append, **options
        )
        self.source.start()

    @property
    def request(self) -> FakeRequest:
        """
        The last request.
        """
        return self.agent.requests[-1]

    def next_request(self, seconds: float) -> FakeRequest:
        """
        Advance the clock to the next request, and check that it comes after exactly so many seconds.
        """
        before = len(self.agent.requests)
        self.clock.advance(seconds - 0.001)
        assert len(self.agent.requests) == before, "too soon"
        self.clock.advance(0.002)
        assert len(self.agent.requests) == before + 1, "too late"
        return self.request


def outcome_of(waiting: Deferred[Any]) -> list[Any]:
    """
    Return a list that receives the result or the error of a Deferred when it fires.
    """
    outcome: list[Any] = []
    keep: Callable[[Any], None] = outcome.append
    waiting.addBoth(lambda result: keep(result.value if isinstance(result, Failure) else result))
    return outcome
