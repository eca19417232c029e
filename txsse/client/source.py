"""
:class:`EventSource`, the client that programs use: it follows a stream as a browser does.
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
from txsse.client.response import StreamRequest, origin_of, parse_url
from txsse.errors import StreamEnded
from txsse.protocol.event import ServerSentEvent
from txsse.protocol.parser import DEFAULT_MAX_EVENT_SIZE

__all__ = ["EventSource"]

# The shortest wait between two streams, in seconds: a stream that says "retry: 0" and ends at once would
# cause hundreds of requests a second. A program may set a shorter one by its own retry, down to _LEAST_RETRY.
_LEAST_RETRY = 0.01
_LEAST_OF_STREAM = 0.1


class EventSource:
    """
    Follow a stream across lost connections and ended streams, until the program closes it.

    A loop over a source receives its events::

        async for event in EventSource("https://example.org/events"):
            print(event.data)

    It connects when it is first iterated over, or by :meth:`start`. Events are pulled, one by one; or they
    are pushed, if ``event_received`` is given. Either way a slow consumer makes the server wait: memory never
    holds more than the events of one read.

    A source that is iterated over is closed when the program holds no reference to it any more, such as when
    a coroutine with such a loop is cancelled. A source with callbacks stays open until :meth:`close`.

    :param url: the URL of the stream.
    :param agent: makes the requests; ``None`` for a :class:`twisted.web.client.Agent`, which verifies
        certificates.
    :param headers: further header fields of the requests. A redirect to another origin drops them, except
        ``Content-Type``, ``Content-Encoding`` and ``Content-Language`` of a body that is sent again.
    :param trusted_origins: the origins that still receive ``headers`` after a redirect, such as
        ``https://example.org``.
    :param last_event_id: the ID to resume from; ``""`` for none. An ID of more than 8 KB is not sent, since
        servers would refuse it with each attempt: the client resumes from the ID before it.
    :param method: the method of the requests.
    :param body: the body of the requests.
    :param retry: the delay before a reconnection, in seconds, until the stream sets another one. It doubles
        with each consecutive attempt that delivers no event. If a stream sets less than 0.1 seconds, the
        delay is 0.1 to 0.15 seconds, unless this argument is less.
    :param max_retry: the longest delay, in seconds; it also limits the delay that the stream sets.
    :param reset_backoff_after: after how many seconds a stream without an event resets the count of failed
        attempts. The first event of a stream resets it at once.
    :param max_attempts: the number of consecutive attempts after which the source ends. An attempt that
        delivers an event, or lasts for ``reset_backoff_after``, resets the count and is the first of the next
        ones; so ``1`` means one attempt. ``None`` for no limit.
    :param reconnect_on: the statuses after which the client tries again, such as 429 and 503. All other
        statuses than 200 and redirects end the source.
    :param connect_timeout: how long an attempt may take until the reply begins, in seconds.
    :param read_timeout: how long the stream may be silent before the client reconnects, in seconds; ``None``
        for no limit. A few times the interval of the server's keep-alive comments is a good value. Any line,
        also a comment, restarts the time-out; an unfinished line does so for each 1 KiB.
    :param max_event_size: the largest event that is accepted, in bytes.
    :param event_received: called with each event, instead of the iteration. If it returns a Deferred or
        another awaitable, the next event waits for it.
    :param on_error: called with every error, also with those after which the client reconnects.
    :param reactor: the reactor; ``None`` for the global one. Its timers are made independent of changes of
        the system time, see :mod:`txsse._clock`.
    :raises ValueError: for an invalid URL, method or header name.

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
        # The reactor is created at the first use, so that creating a source at import time installs no
        # reactor.
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
            raise ValueError(f"{method!r} is not an HTTP method; methods are written like GET or POST")
        trusted = frozenset(origin_of(parse_url(origin)) for origin in trusted_origins)
        request = StreamRequest(parse_url(url), method, _to_fields(headers), body, trusted)
        delay = Backoff(
            retry,
            max_retry,
            floor=min(max(retry, _LEAST_RETRY), _LEAST_OF_STREAM),
            randomness=lambda: randomness_of(get_reactor()),
        )
        self._delivery = Delivery(event_received, last_event_id, get_reactor)
        self._following = Following(
            request, delay, options, self._delivery, cast("IAgent | None", agent), get_reactor
        )
        self._raised = False
        # A coroutine that is cancelled leaves its loop without a call of close().
        finalize(self, self._following.close_soon).atexit = False

    def __repr__(self) -> str:
        return f"<EventSource {self.url} {self.ready_state.name.lower()}>"

    @property
    def url(self) -> str:
        """
        The URL of the stream, after all redirects so far.
        """
        return self._following.request.url.to_text()

    @property
    def ready_state(self) -> ReadyState:
        """
        Connecting, open or closed, as the standard numbers them.
        """
        return self._following.ready_state

    @property
    def last_error(self) -> Exception | None:
        """
        The most recent error; ``None`` if no error has happened.
        """
        return self._following.last_error

    @property
    def retry(self) -> float:
        """
        The delay before a reconnection, in seconds, as the stream last set it.
        """
        return self._following.delay.base

    @property
    def reconnect_in(self) -> float | None:
        """
        The time until the next attempt, in seconds; ``None`` unless the source waits for an attempt.

        In ``on_error`` it is the delay that begins.
        """
        return self._following.reconnect_in

    @property
    def last_event_id(self) -> str:
        """
        The ID to resume from.

        It is that of the last event that was delivered, or a later one that the stream sent without an event.
        """
        if self._delivery.pending:
            return self._delivery.delivered_id
        return self._following.parser.last_event_id

    def start(self) -> None:
        """
        Connect, if the source has not been started.
        """
        self._following.machine.start()

    def close(self) -> None:
        """
        End the source: it delivers no more events, even if some were already received.
        """
        self._following.machine.close()

    def when_open(self) -> Deferred[None]:
        """
        Wait until a stream is open.

        :returns: a Deferred that fires when a stream is open, at once if one already is. It fails with the
            error that ended the source, or with :exc:`~txsse.errors.StreamEnded` if the program closed it.
        """
        if self.ready_state is ReadyState.OPEN:
            return succeed(None)
        if self.ready_state is ReadyState.CLOSED:
            return fail(self._following.end or StreamEnded(self.url))
        return self._following.when_open.wait()

    def when_closed(self) -> Deferred[Exception | None]:
        """
        Wait until the source has ended.

        :returns: a Deferred that fires with the error that ended the source, or with ``None`` if the program
            closed it.
        """
        if self.ready_state is ReadyState.CLOSED:
            return succeed(self._following.end)
        return self._following.when_closed.wait()

    def add_listener(self, type: str, callback: EventCallback) -> None:
        """
        Push the events of one type to a callback; ``event_received`` gets the events of all types.

        :param type: the type, ``message`` for events without one.
        :param callback: called with each event.
        """
        self._delivery.listen(type, callback)

    def __aiter__(self) -> EventSource:
        return self

    async def __anext__(self) -> ServerSentEvent:
        delivery = self._delivery
        if delivery.pushes:
            raise TypeError("an EventSource with callbacks pushes its events, and cannot be iterated over")
        if delivery.pending:
            if not delivery.is_slice_over:
                return delivery.take()
            # A read can bring ten thousand events, and a loop over them never waits for anything.
            with in_task_of_twisted():
                await delivery.yield_to_reactor()
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
            raise ValueError(f"{name!r} is not a header field name")
    return tuple(headers.items())
