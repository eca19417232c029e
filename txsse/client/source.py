"""
Follow a stream, as a browser does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import cast
from weakref import finalize

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent

from txsse._backoff import Backoff
from txsse._clock import make_steady
from txsse._futures import in_task_of_twisted
from txsse._randomness import randomness_of
from txsse._reactor import global_reactor
from txsse._typing import AnyAgent, AnyReactor
from txsse.client.delivery import Delivery, EventCallback
from txsse.client.following import Following
from txsse.client.machine import ReadyState
from txsse.client.options import Options
from txsse.client.response import Asked, origin_of, parse_url
from txsse.errors import StreamEnded
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import DEFAULT_MAX_EVENT_SIZE

__all__ = ["EventSource"]

# The shortest wait between two streams, in seconds: a stream that says "retry: 0" and ends at once would have
# hundreds of requests a second. A program may set a lower floor by its own retry, down to the first.
_LEAST_RETRY = 0.01
_LEAST_OF_STREAM = 0.1


class EventSource:
    """
    Follows a stream over lost connections and ended streams, until it is closed::

        async for event in EventSource("https://example.org/events"):
            print(event.data)

    It connects when it is first iterated over, or by :meth:`start`. Events are pulled, one by one; or they
    are pushed, where ``event_received`` is given. Either way a consumer that is slow makes the server wait:
    there is never more in memory than what one read brought.

    One that is iterated over is closed when the program holds no reference to it any more, as when a
    coroutine with such a loop is cancelled. One with callbacks stays open until :meth:`close`.

    :param url: where the stream is.
    :param agent: makes the requests; ``None`` for a :class:`twisted.web.client.Agent`, which verifies
        certificates.
    :param headers: further header fields of the requests. A redirect to another origin drops them, except
        ``Content-Type``, ``Content-Encoding`` and ``Content-Language`` of a body that is sent again.
    :param trusted_origins: the origins that a redirect may take ``headers`` to, as in
        ``https://example.org``.
    :param last_event_id: where to resume; ``""`` for nowhere. An id of more than 8 KB is not sent, since
        servers would refuse it with each attempt: the client resumes from the id before it.
    :param method: the method of the requests.
    :param body: their body.
    :param retry: how long to wait before the stream is asked for again, in seconds, until the stream says
        otherwise. It doubles with each attempt in a row that delivers no event. A stream that asks for less
        than 0.1 seconds gets 0.1 to 0.15, unless this is less.
    :param max_retry: the longest wait, in seconds, whatever the stream says.
    :param reset_backoff_after: how long a stream without an event must last until the failures before it do
        not count any more, in seconds. The first event of a stream has the same effect at once.
    :param max_attempts: how many attempts end it. The count begins anew with an attempt that delivers an
        event or lasts, as its first; so ``1`` is one attempt alone. ``None`` for any number.
    :param reconnect_on: the statuses that are worth another attempt, such as 429 and 503. All others than
        200, and redirects, are final.
    :param connect_timeout: how long an attempt may take until the reply begins, in seconds.
    :param read_timeout: how long the stream may be silent until it counts as lost, in seconds; ``None`` for
        ever. A few times the interval of the server's keep-alives is right. Any line ends the silence, also a
        comment; a part of a line does so from 1 KiB on.
    :param max_event_size: the largest event that is accepted, in bytes.
    :param event_received: called with each event, instead of the iteration. Where it returns a Deferred or
        another awaitable, the next event waits for that.
    :param on_error: called with every error, the temporary ones too.
    :param reactor: the reactor; ``None`` for the global one. Its timers are made independent of the system's
        time, see :mod:`txsse._clock`.
    :raises ValueError: for a URL that is none, and for a method or a header's name that cannot be.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(
        self,
        url: str,
        *,
        reactor: AnyReactor | None = None,
        agent: AnyAgent | None = None,
        headers: Mapping[str, str] | Headers | None = None,
        trusted_origins: Iterable[str] = (),
        last_event_id: str = "",
        method: str = "GET",
        body: bytes | None = None,
        retry: float = 3.0,
        max_retry: float = 60.0,
        reset_backoff_after: float = 10.0,
        max_attempts: int | None = None,
        reconnect_on: Iterable[int] = (),
        connect_timeout: float = 30.0,
        read_timeout: float | None = None,
        max_event_size: int = DEFAULT_MAX_EVENT_SIZE,
        event_received: EventCallback | None = None,
        on_error: Callable[[Exception], object] | None = None,
    ) -> None:
        # Not before it is used, so that making one at import time installs no reactor.
        @cache
        def get_reactor() -> IReactorTime:
            return make_steady(cast("IReactorTime | None", reactor) or global_reactor())

        options = Options(
            reset_backoff_after=reset_backoff_after,
            max_attempts=max_attempts,
            reconnect_on=frozenset(reconnect_on),
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            max_event_size=max_event_size,
            on_error=on_error,
        )
        if not (method.isascii() and method.isalpha()):
            raise ValueError(f"{method!r} is no method; one is written like GET or POST")
        trusted = frozenset(origin_of(parse_url(origin)) for origin in trusted_origins)
        asked = Asked(parse_url(url), method, _to_fields(headers), body, trusted)
        delay = Backoff(
            retry,
            max_retry,
            floor=min(max(retry, _LEAST_RETRY), _LEAST_OF_STREAM),
            randomness=lambda: randomness_of(get_reactor()),
        )
        self._delivery = Delivery(event_received, last_event_id, get_reactor)
        self._following = Following(
            asked, delay, options, self._delivery, cast("IAgent | None", agent), get_reactor
        )
        self._raised = False
        # A handler that is cancelled leaves its loop without a call to close().
        finalize(self, self._following.close_soon).atexit = False

    def __repr__(self) -> str:
        return f"<EventSource {self.url} {self.ready_state.name.lower()}>"

    @property
    def url(self) -> str:
        """
        Where the stream is, behind all redirects so far.
        """
        return self._following.asked.url.to_text()

    @property
    def ready_state(self) -> ReadyState:
        """
        Connecting, open or closed, as the standard numbers them.
        """
        return self._following.ready_state

    @property
    def last_error(self) -> Exception | None:
        """
        What went wrong last; ``None`` for nothing so far.
        """
        return self._following.last_error

    @property
    def retry(self) -> float:
        """
        How long to wait before the stream is asked for again, in seconds: what the stream said last.
        """
        return self._following.delay.base

    @property
    def reconnect_in(self) -> float | None:
        """
        The time until the next attempt, in seconds; ``None`` where the source does not wait for one. In
        ``on_error`` it is the delay that begins.
        """
        return self._following.reconnect_in

    @property
    def last_event_id(self) -> str:
        """
        What to resume from: the id of the last event that was handed over, or what came behind it alone.
        """
        if self._delivery.pending:
            return self._delivery.delivered_id
        return self._following.parser.last_event_id

    def start(self) -> None:
        """
        Connect, unless that has been done.
        """
        self._following.machine.start()

    def close(self) -> None:
        """
        End it: nothing is handed over from now on, whatever has come already.
        """
        self._following.machine.close()

    def when_open(self) -> Deferred[None]:
        """
        Wait until a stream is open.

        :returns: a Deferred that fires then, at once where one is; it fails with the error that ended the
            source, or with :exc:`~txsse.errors.StreamEnded` where it was closed.
        """
        if self.ready_state is ReadyState.OPEN:
            return succeed(None)
        if self.ready_state is ReadyState.CLOSED:
            return fail(self._following.end or StreamEnded(self.url))
        return self._following.when_open.wait()

    def when_closed(self) -> Deferred[Exception | None]:
        """
        Wait for the end.

        :returns: a Deferred that fires with the error that ended the source, and with ``None`` where it was
            closed.
        """
        if self.ready_state is ReadyState.CLOSED:
            return succeed(self._following.end)
        return self._following.when_closed.wait()

    def add_listener(self, type: str, callback: EventCallback) -> None:
        """
        Have events of a type pushed, as ``event_received`` has all.

        :param type: the type, ``message`` for events without one.
        :param callback: called with each.
        """
        self._delivery.listen(type, callback)

    def __aiter__(self) -> EventSource:
        return self

    async def __anext__(self) -> ServerSentEvent:
        delivery = self._delivery
        if delivery.pushes:
            raise TypeError("an EventSource with callbacks pushes its events, and cannot be iterated over")
        if delivery.pending:
            if not delivery.is_over:
                return delivery.take()
            # A read can hold ten thousand events, and a loop over them never waits for anything.
            with in_task_of_twisted():
                await delivery.let_go()
        self.start()
        while not delivery.pending:
            if self.ready_state is ReadyState.CLOSED:
                end = self._following.end
                if end is not None and not self._raised:
                    self._raised = True
                    raise end
                raise StopAsyncIteration
            with in_task_of_twisted():
                await delivery.wait()
        return delivery.take()


def _to_fields(headers: Mapping[str, str] | Headers | None) -> tuple[tuple[str, str | bytes], ...]:
    if headers is None:
        return ()
    if isinstance(headers, Headers):
        return tuple(
            (name.decode("ascii"), value) for name, values in headers.getAllRawHeaders() for value in values
        )
    for name in headers:
        if not name.isascii():
            raise ValueError(f"{name!r} is no name of a header field")
    return tuple(headers.items())
