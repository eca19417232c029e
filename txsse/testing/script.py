"""
A scripted HTTP server for tests of SSE clients: each request gets the next reply of a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import cast

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from zope.interface import implementer

from txsse._clock import make_steady
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent

__all__ = ["CUT", "HOLD", "Reply", "ScriptedResource", "Step", "Visit"]

# The number of steps before the script yields to the reactor.
_SLICE = 64


class Mark(Enum):
    """
    Steps of a reply other than writing and waiting.
    """

    CUT = "cut the connection"
    HOLD = "hold the stream open"


#: A step that cuts the connection: the client gets the data written before, but no end of the response.
CUT = Mark.CUT

#: A step that leaves the stream open until the client disconnects.
HOLD = Mark.HOLD

#: A step of a reply: data to write, a number of seconds to wait, :data:`CUT` or :data:`HOLD`.
Step = str | bytes | ServerSentEvent | float | Mark


@dataclass(frozen=True)
class Reply:
    """
    The response to one request.

    :param steps: the steps of the body; the response ends after the last one. Each text is one chunk. The
        steps may be infinite if they contain a wait, or if the client pauses the connection.
    :param status: the status code.
    :param headers: the header fields; ``Content-Type`` defaults to ``text/event-stream``. With a
        ``Content-Length``, correct or not, the body is sent without chunked framing.
    """

    steps: Iterable[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """
    A request that the server received.

    :param method: the method.
    :param path: the path, with the query.
    :param headers: the header fields, with names in lower case.
    :param body: the body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def last_event_id(self) -> str | None:
        """
        The value of ``Last-Event-ID``; ``None`` if the request did not have this field.
        """
        value = self.headers.get("last-event-id")
        return None if value is None else value.encode("latin-1").decode("utf-8", "replace")


class ScriptedResource(Resource):
    r"""
    Answer the first request with the first reply, the second with the second, whatever their paths.

    After the last reply it answers 204, which stops an ``EventSource`` permanently::

        resource = ScriptedResource([
            Reply(["id: 1\ndata: a\n\n", CUT]),
            Reply(status=503, headers={"Retry-After": "2"}),
            Reply(["data: b\n\n", 0.5, "data: c\n\n", HOLD]),
        ])

    :param replies: the replies; a list of steps is short for a :class:`Reply` with these steps.
    :param reactor: the reactor for waits; ``None`` for the global one.
    :ivar visits: the requests so far.
    :ivar open: the number of replies that are being sent or held open.
    """

    isLeaf = True

    def __init__(self, replies: Iterable[Reply | list[Step]], *, reactor: AnyReactor | None = None) -> None:
        Resource.__init__(self)
        self.visits: list[Visit] = []
        self.open = 0
        self._replies = iter(replies)
        self._reactor = cast("IReactorTime | None", reactor)

    def render(self, request: Request) -> int:
        """
        Send the next reply.
        """
        content = request.content
        assert content is not None
        self.visits.append(
            Visit(
                request.method.decode("latin-1"),
                request.uri.decode("latin-1"),
                {
                    name.decode("latin-1").lower(): values[-1].decode("latin-1")
                    for name, values in request.requestHeaders.getAllRawHeaders()
                },
                content.read(),
            )
        )
        reply = next(self._replies, Reply(status=204))
        if not isinstance(reply, Reply):
            reply = Reply(reply)
        request.setResponseCode(reply.status)
        request.setHeader("content-type", "text/event-stream")
        for name, value in reply.headers.items():
            request.setHeader(name, value.encode("latin-1"))
        self.open += 1
        playing = _Playing(request, iter(reply.steps), make_steady(self._reactor or global_reactor()))
        request.notifyFinish().addBoth(self._ended, playing)
        playing.begin()
        return NOT_DONE_YET

    def _ended(self, _: object, playing: _Playing) -> None:
        self.open -= 1
        playing.stopProducing()


@implementer(IPushProducer)
class _Playing:
    """
    The sending of one reply: a producer that runs its steps.
    """

    def __init__(self, request: Request, steps: Iterator[Step], reactor: IReactorTime) -> None:
        self._request = request
        self._steps = steps
        self._reactor = reactor
        self._paused = False
        self._ended = False
        self._call: IDelayedCall | None = None

    def begin(self) -> None:
        self._request.registerProducer(self, True)
        self._play()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._call is None:
            self._later(0)

    def stopProducing(self) -> None:
        self._ended = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _later(self, seconds: float) -> None:
        if not self._ended:
            self._call = self._reactor.callLater(seconds, self._play)

    def _play(self) -> None:
        self._call = None
        for _ in range(_SLICE):
            if self._paused or self._ended:
                return
            step = next(self._steps, None)
            if step is None:
                self._request.unregisterProducer()
                self._request.finish()
                return
            if isinstance(step, str | bytes | ServerSentEvent):
                self._request.write(_to_bytes(step))
                continue
            # The client gets at least the response's headers.
            self._request.write(b"")
            if not isinstance(step, Mark):
                self._later(step)
                return
            self._ended = True
            if step is CUT:
                self._cut()
            return
        self._later(0)

    def _cut(self) -> None:
        channel = self._request.channel
        # HTTP/1: the connection is closed after the written data, in the middle of the body. HTTP/2: only
        # this stream is reset, and the reset may overtake the data written last.
        cut = getattr(channel, "abortConnection", None) or channel.loseConnection
        cut()


def _to_bytes(step: str | bytes | ServerSentEvent) -> bytes:
    if isinstance(step, ServerSentEvent):
        return encode_event(step)
    return step.encode() if isinstance(step, str) else step
