"""
The upgrader: it turns requests into channels, or refuses them with a response.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Literal, cast

from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from twisted.web.server import Request as ServerRequest

from txsse._arguments import check_number, wrong_type
from txsse._clock import make_steady
from txsse._reactor import global_reactor
from txsse._serialize import to_json
from txsse._twisted.http import forget_encoder
from txsse._twisted.tcp import plain_transport
from txsse._typing import AnyReactor
from txsse.errors import UpgradeRefused
from txsse.protocol.encoder import encode_retry
from txsse.server.buffer import Budget
from txsse.server.channel import SSEChannel
from txsse.server.channel_options import ChannelOptions
from txsse.server.keepalive import KeepaliveClock, NoKeepalive
from txsse.server.limits import Limits
from txsse.server.negotiation import Accepted, Answer, Malformed, decide, read_asked, read_last_event_id
from txsse.server.options import OwnHeaders, seconds, to_headers, to_kept_headers, to_rules
from txsse.server.peer_timeout import MAX_PEER_TIMEOUT, PeerTimeout
from txsse.server.request import StreamRequest
from txsse.server.shutdown import shutdown_of
from txsse.server.sinks.base import Sink
from txsse.server.sinks.detached import DetachedSink, can_detach
from txsse.server.sinks.direct import DirectSink
from txsse.server.sinks.http2 import http2_sink
from txsse.server.sinks.request import RequestSink
from txsse.server.slow import OverflowPolicy, to_policy
from txsse.web.access_log import guard_log, log_access
from txsse.web.framing import StrictChannel
from txsse.web.responses import can_respond, send_response, set_headers

__all__ = ["DEFAULT_MAX_BUFFER", "Upgrader", "answer", "upgrade"]

# One second of a busy stream. A thousand slow readers then buffer a gigabyte of frames; small frames take a
# few times their size in memory.
DEFAULT_MAX_BUFFER = 1024 * 1024

# An amount that slow readers may take on a machine with a few gigabytes of memory without harm.
DEFAULT_MAX_TOTAL_BUFFER = 256 * 1024 * 1024


class Upgrader:
    """
    Turns requests into channels, all with the same options.

    :param retry: how long clients wait before they reconnect, in seconds; ``None`` for their own default
        (browsers take some 3 to 5).
    :param keepalive: the longest silence, in seconds, before a comment is sent to keep the stream alive; most
        proxies cut a silent connection after 30 or 60. ``None`` for no comments. Over HTTP/2, where Twisted
        itself cuts silent connections, it is never more than half of the site's time-out.
    :param headers: response headers to add or replace; ``None`` as a value removes a header.
    :param methods: the methods that open a stream. ``POST`` must be listed.
    :param any_accept: whether to ignore the ``Accept`` header, instead of refusing a request with 406 that
        does not accept ``text/event-stream``. Clients of language models send ``application/json`` with a
        ``POST`` and read a stream nevertheless.
    :param allow_origins: the origins, such as ``https://example.org``, whose pages may read the streams;
        ``*`` for all, without credentials. Pages of the stream's own origin are always allowed.
    :param allow_credentials: whether pages of these origins may send cookies.
    :param allow_headers: the request headers that pages of these origins may set.
    :param last_event_id_parameter: the query parameter that replaces the ``Last-Event-ID`` header, which some
        polyfills cannot send; ``None`` for no parameter. A header that is not empty takes precedence; of
        several parameters, the last one that is not empty counts.
    :param max_last_event_id: the longest accepted ``Last-Event-ID``, in bytes. A client that was sent a
        longer ID gets 400 when it reconnects, and browsers then do not retry.
    :param conflicting_last_event_ids: the ID that a request with several different ``Last-Event-ID`` headers
        resumes from, such as ``earliest`` in a hub; ``None`` to refuse the request with 400.
    :param max_buffer: how many bytes are buffered for one slow client.
    :param max_total_buffer: how many bytes are buffered for all clients together.
    :param slow_policy: the overflow policy, which decides when a slow client's buffer is full: ``"close"``
        ends the stream, ``"drop"`` drops new events, and ``"latest"`` buffers only the newest event of each
        type (in a hub: of each topic). ``"replay"``, in a hub, stops buffering and replays from the journal
        once the client has caught up; elsewhere it is the same as ``"close"``. Pass an instance of an
        :class:`~txsse.server.slow.OverflowPolicy` for a policy of your own. ``None`` for the default:
        ``"replay"`` in a hub, ``"close"`` elsewhere.
    :param limits: how many channels may be open, in total and per client; further requests are refused with
        503 or 429. ``None`` for no limits.
    :param flush_timeout: how long a closed channel may take to flush accepted frames, in seconds.
    :param shutdown_timeout: how long handlers may take to end when the reactor stops, in seconds. They are
        cancelled, and their channels can still send meanwhile.
    :param max_lifetime: the longest duration of a stream, in seconds, reduced by up to 20 % at random;
        ``None`` for no limit.
    :param peer_timeout: how long sent data may stay unacknowledged before the connection counts as lost, in
        seconds, if the system supports it; ``None`` for the system's default, some 15 minutes. On Linux this
        also ends the stream of a client that reads nothing at all for so long, whatever the ``slow_policy``.
        The close reason is then :attr:`txsse.CloseReason.PEER_TIMEOUT`.
    :param dumps: the JSON encoder of :meth:`txsse.SSEChannel.send_json`, such as ``orjson.dumps``.
    :param direct_writes: whether to bypass ``request.write`` if that changes only the speed.
    :param keep_headers: the request headers that ``channel.request.getHeader`` returns, besides those for
        access logs: ``Referer``, ``User-Agent`` and ``X-Forwarded-For``.
    :param keep_request: whether ``channel.request.original`` is Twisted's request. ``False`` releases the
        request if the stream does not need it: a stream then takes a third of the memory; this needs
        ``direct_writes``. ``None`` for the default: :meth:`upgrade` keeps it, and a hub does not.
    :param reactor: the reactor; ``None`` for the global one. Its timers are made independent of the system's
        time, see :mod:`txsse._clock`.
    :raises ValueError: for invalid options, or options that exclude each other.
    :raises TypeError: for options of another type.
    """

    def __init__(
        self,
        *,
        retry: float | None = None,
        keepalive: float | None = 15.0,
        headers: Mapping[str, str | None] | None = None,
        methods: Iterable[str] = ("GET",),
        any_accept: bool = False,
        allow_origins: Iterable[str] = (),
        allow_credentials: bool = False,
        allow_headers: Iterable[str] = (
            "Accept",
            "Authorization",
            "Cache-Control",
            "Content-Type",
            "Last-Event-ID",
        ),
        last_event_id_parameter: str | None = "lastEventId",
        max_last_event_id: int = 1024,
        conflicting_last_event_ids: str | None = None,
        max_buffer: int = DEFAULT_MAX_BUFFER,
        max_total_buffer: int = DEFAULT_MAX_TOTAL_BUFFER,
        slow_policy: Literal["close", "drop", "latest", "replay"] | OverflowPolicy | None = None,
        limits: Limits | None = None,
        flush_timeout: float = 30.0,
        shutdown_timeout: float = 5.0,
        max_lifetime: float | None = None,
        peer_timeout: float | None = 60.0,
        dumps: Callable[[object], str | bytes] = to_json,
        direct_writes: bool = True,
        keep_headers: Iterable[str] = (),
        keep_request: bool | None = None,
        reactor: AnyReactor | None = None,
    ) -> None:
        self._opening = b"" if retry is None else encode_retry(retry)
        self._keepalive = seconds("keepalive", keepalive)
        self._headers = to_headers(headers or {})
        self._rules = to_rules(
            methods,
            allow_origins,
            allow_credentials,
            allow_headers,
            max_last_event_id,
            conflicting_last_event_ids,
            any_accept,
        )
        self._last_event_id_parameter = (
            None if last_event_id_parameter is None else last_event_id_parameter.encode()
        )
        for name, size in (("max_buffer", max_buffer), ("max_total_buffer", max_total_buffer)):
            check_number(name, size, "a number of bytes", whole=True)
            if size < 0:
                raise ValueError(f"{name} must be a number of bytes, not {size}")
        if limits is not None and not isinstance(limits, Limits):
            raise wrong_type("limits", limits, "a Limits, such as Limits(channels=1000)")
        if not callable(dumps):
            raise wrong_type("dumps", dumps, "callable with a value, such as orjson.dumps")
        self._budget = Budget(max_buffer, max_total_buffer)
        self._slow_policy = None if slow_policy is None else to_policy(slow_policy)
        self._limits = limits or Limits()
        self._flush_timeout = seconds("flush_timeout", flush_timeout) or 0
        self._shutdown_timeout = seconds("shutdown_timeout", shutdown_timeout) or 0
        self._max_lifetime = seconds("max_lifetime", max_lifetime)
        self._peers = PeerTimeout(seconds("peer_timeout", peer_timeout, MAX_PEER_TIMEOUT))
        self._dumps = dumps
        self._direct = direct_writes
        self._kept_headers = to_kept_headers(keep_headers)
        self._keep_request = keep_request
        self._reactor = cast("IReactorTime | None", reactor)
        self._options: ChannelOptions | None = None
        self._clocks: dict[float, KeepaliveClock] = {}

    def upgrade(self, request: Request, *, keep_request: bool = True) -> SSEChannel:
        """
        Make a channel from a request.

        The response headers are sent at once, so that ``onopen`` fires in the browser before the first event.

        :param request: a request without a response. ``render`` returns ``NOT_DONE_YET`` afterwards; a Klein
            route returns ``channel.when_closed()``, since Klein finishes the request when the route is done.
        :param keep_request: used if the upgrader's own option is ``None``.
        :returns: the channel, open.
        :raises UpgradeRefused: if the request is refused; the response to it has been sent.
        """
        return self.carry_out(request, self.decide(request), keep_request=keep_request)

    def carry_out(
        self, request: Request, decision: Accepted | Answer, *, keep_request: bool = True
    ) -> SSEChannel:
        """
        Carry out a decision; the limits of channels are checked again, since other channels may have opened.

        :param request: the request.
        :param decision: the value that :meth:`decide` returned.
        :param keep_request: as for :meth:`upgrade`.
        :raises UpgradeRefused: as :meth:`upgrade` does.
        """
        _check_unanswered(request)
        if isinstance(decision, Accepted):
            decision = self._limits.refusal(request, decision) or decision
        if isinstance(decision, Answer):
            # A HEAD that gets 200 has the headers that a GET would have.
            own = self._headers if decision.status == 200 else []
            answer(request, decision, own)
            raise UpgradeRefused(decision.reason, status=decision.status)
        if self._keep_request is not None:
            keep_request = self._keep_request
        return self._open(request, decision, keep_request=keep_request)

    def decide(self, request: Request) -> Accepted | Answer:
        """
        Decide whether a request becomes a stream, without side effects on the request.

        :param request: the request.
        """
        decision = decide(read_asked(request, self._last_event_id_parameter), self._rules)
        if isinstance(decision, Accepted):
            return self._limits.refusal(request, decision) or decision
        return decision

    def check_last_event_id(self, last_event_id: str) -> None:
        """
        Check a Last-Event-ID that comes from a place that :meth:`decide` does not read.

        :raises UpgradeRefused: for an ID that is too long, or that no event can have had; no response has
            been sent.
        """
        found = read_last_event_id([last_event_id.encode()], self._rules.max_last_event_id)
        if isinstance(found, Malformed):
            raise UpgradeRefused(found.reason, status=400)

    def describe(self, request: Request) -> StreamRequest:
        """
        Return the data that a channel would keep of a request.
        """
        return StreamRequest(request, self._kept_headers, keep_request=False)

    @property
    def reactor(self) -> IReactorTime:
        """
        The reactor that the channels run in.
        """
        return self._channel_options().reactor

    def _open(self, request: Request, accepted: Accepted, *, keep_request: bool) -> SSEChannel:
        _forget_encoder(request)
        guard_log(getattr(request.channel, "factory", None))
        set_headers(request, [*accepted.headers, *self._headers])
        request.setResponseCode(200)
        # Send the headers at once.
        request.write(b"")
        options = self._channel_options()
        clock = self._clock(request)
        direct = self._direct and _goes_straight(request)
        asked = StreamRequest(request, self._kept_headers, keep_request=keep_request)
        detached = direct and not keep_request and can_detach(request)
        sink: Sink
        if detached:
            sink = DetachedSink(request, asked, self._peers)
        else:
            sink = _choose_sink(request, direct=direct)
        channel = SSEChannel(
            asked,
            sink,
            last_event_id=accepted.last_event_id,
            keepalive=clock,
            options=options,
            leave=self._limits.enter(request),
        )
        if detached:
            # Application code that still has the request ends the stream with finish().
            request.finish = channel.close  # type: ignore[method-assign]
        else:
            self._follow(request, channel)
        if self._opening:
            sink.write(self._opening)
        return channel

    def _follow(self, request: Request, channel: SSEChannel) -> None:
        """
        Make the channel end when its request ends.
        """
        held = self._peers.hold(request)
        reused = bool(getattr(request.channel, "persistent", True))
        site = getattr(request, "site", None)

        finish: Callable[[], object] = request.finish

        def unregister_and_finish() -> None:
            # Application code that still has the request may end the stream with it, and does not know the
            # producer; Twisted logs a failure if one is still registered.
            if request.producer is not None:
                request.unregisterProducer()
            finish()

        request.finish = unregister_and_finish  # type: ignore[method-assign]

        def end(result: Failure | None) -> None:
            # The method refers to the request: together they would be a cycle of references.
            vars(request).pop("finish", None)
            lost = self._peers.explain(result, held) if isinstance(result, Failure) else None
            try:
                channel.request_ended(lost)
            finally:
                self._peers.release(held, reused=reused)
                if lost is not None and site is not None:
                    # Twisted logs only finished requests, and most streams end because their client
                    # disconnects.
                    log_access(site, request)

        request.notifyFinish().addBoth(end)

    def _channel_options(self) -> ChannelOptions:
        # Created at the first request, so that creating an upgrader at import time installs no reactor.
        if self._options is None:
            reactor = make_steady(self._reactor or global_reactor())
            self._options = ChannelOptions(
                reactor=reactor,
                dumps=self._dumps,
                flush_timeout=self._flush_timeout,
                max_lifetime=self._max_lifetime,
                slow_policy=self._slow_policy,
                budget=self._budget,
                shutdown=shutdown_of(reactor),
                shutdown_timeout=self._shutdown_timeout,
            )
        return self._options

    def _clock(self, request: Request) -> KeepaliveClock | NoKeepalive:
        interval = self._keepalive
        if request.clientproto == b"HTTP/2":
            # Twisted's HTTP/2 ends a connection that is idle for Site.timeOut, even with open streams.
            timeout = getattr(getattr(request, "site", None), "timeOut", None)
            if timeout is not None:
                interval = min(timeout / 2, math.inf if interval is None else interval)
        if interval is None:
            return NoKeepalive()
        if interval not in self._clocks:
            reactor = self._channel_options().reactor
            self._clocks[interval] = KeepaliveClock(reactor, interval)
        return self._clocks[interval]


def upgrade(request: Request) -> SSEChannel:
    """
    Make a channel from a request, with the options of ``Upgrader()``.

    :param request: the request.
    :returns: the channel.
    :raises UpgradeRefused: as :meth:`Upgrader.upgrade` does.
    """
    return default_upgrader().upgrade(request)


@cache
def default_upgrader() -> Upgrader:
    """
    Return the shared upgrader with default options.
    """
    return Upgrader()


def _check_unanswered(request: Request) -> None:
    # A request that was passed on to another process has no channel, and cannot be streamed to.
    if not can_respond(request):
        raise UpgradeRefused("the request has ended: its client has disconnected", status=None)
    if request.startedWriting:
        raise UpgradeRefused("the response to the request has begun already", status=None)
    if request.producer is not None:
        raise UpgradeRefused("the response to the request has another producer already", status=None)


def _choose_sink(request: Request, *, direct: bool) -> Sink:
    """
    Choose the best sink for a request whose headers have been written.

    :param request: the request.
    :param direct: whether frames may bypass ``Request`` and ``HTTPChannel``.
    """
    if request.clientproto == b"HTTP/2":
        return http2_sink(request)
    return DirectSink(request) if direct else RequestSink(request)


def _goes_straight(request: Request) -> bool:
    """
    Return whether ``request.write`` would only write each frame as one chunk to a plain socket.
    """
    return (
        bool(request.chunked)
        and type(request.channel) in (HTTPChannel, StrictChannel)
        and plain_transport(request.channel) is not None
        # A subclass or an instance with its own write must get every frame.
        and "write" not in vars(request)
        and type(request).write in (Request.write, ServerRequest.write)
    )


def answer(request: Request, decided: Answer, own: OwnHeaders = ()) -> None:
    """
    Send the response to a request that does not become a stream.

    :param request: the request.
    :param decided: the response.
    :param own: further headers.
    """
    _forget_encoder(request)
    send_response(request, decided.status, decided.body, headers=[*decided.headers, *own])
    # If the caller does not catch UpgradeRefused, twisted.web would write an error page after the complete
    # response, and fail at that. With these stubs it only logs the exception.
    request.write = request.finish = _do_nothing  # type: ignore[method-assign]


def _do_nothing(*_: object) -> None:
    """
    Replace the methods of a request that has a complete response.
    """


def _forget_encoder(request: Request) -> None:
    """
    Bypass an encoder of the body, such as that of ``GzipEncoderFactory``.

    Such an encoder holds events back until it has enough of them to compress well, and it cannot be flushed.
    """
    if forget_encoder(request):
        request.responseHeaders.removeHeader(b"Content-Encoding")
