"""
A server that does what a test has written down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, cast

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

# So many steps are played before the reactor has its turn.
_SLICE = 64


class Mark(Enum):
    """
    What else a reply may do than write and wait.
    """

    CUT = "cut the connection"
    HOLD = "hold the stream open"


#: A step that cuts the connection: the client gets what was written before, and no end of the stream.
CUT = Mark.CUT

#: A step that leaves the stream open, until the client goes.
HOLD = Mark.HOLD

#: What a reply does next: write, wait for so many seconds, or one of :data:`CUT` and :data:`HOLD`.
Step = str | bytes | ServerSentEvent | float | Mark


@dataclass(frozen=True)
class Reply:
    """
    What one request is answered.

    :param steps: what its body does, step by step; it ends behind the last one. Each text is a chunk of its
        own. They may be endless, where there is a wait among them, or a client that pauses.
    :param status: the status.
    :param headers: the fields; ``Content-Type`` is that of a stream where it is not among them. With a
        ``Content-Length``, true or not, the body is sent without chunks.
    """

    steps: Iterable[Step] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Visit:
    """
    A request that came.

    :param method: its method.
    :param path: its path, with the query.
    :param headers: its fields, with names in lower case.
    :param body: its body.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def last_event_id(self) -> str | None:
        """
        The ``Last-Event-ID``; ``None`` where there was none.
        """
        value = self.headers.get("last-event-id")
        return None if value is None else value.encode("latin-1").decode("utf-8", "replace")


class ScriptedResource(Resource):
    """
    Answers the first request with the first reply, the second with the second, whatever their paths. When all
    have been played it answers 204, which ends an ``EventSource`` for good::

        resource = ScriptedResource([
            Reply(["id: 1\\ndata: a\\n\\n", CUT]),
            Reply(status=503, headers={"Retry-After": "2"}),
            Reply(["data: b\\n\\n", 0.5, "data: c\\n\\n", HOLD]),
        ])

    :param replies: the replies; a list of steps alone stands for a stream of these.
    :param reactor: what the waits are waited in; ``None`` for the global one.
    :ivar visits: the requests so far.
    :ivar open: how many replies are being played, or held.
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
        Play the next reply.
        """
        content: Any = request.content
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
    One reply, on its way.
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
            # So that the client has the head at least.
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
        channel: Any = self._request.channel
        # Over HTTP/1 a close behind what was written, in the middle of the body; over HTTP/2 a reset of the
        # one stream, which may overtake what was written last.
        cut = getattr(channel, "abortConnection", None) or channel.loseConnection
        cut()


def _to_bytes(step: str | bytes | ServerSentEvent) -> bytes:
    if isinstance(step, ServerSentEvent):
        return encode_event(step)
    return step.encode() if isinstance(step, str) else step
