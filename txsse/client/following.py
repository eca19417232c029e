"""
The work of an event source: requests, redirects, streams, time-outs and the waits between attempts.

:mod:`txsse.client.machine` decides what happens next; :class:`Following` does it, and reports to the machine
what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IResponse

from txsse._backoff import Backoff
from txsse._clock import wall
from txsse._redact import without_secrets
from txsse._waiters import Waiters
from txsse.client.connection import new_pool
from txsse.client.delivery import Delivery
from txsse.client.excerpt import discard, read_excerpt
from txsse.client.fields import fields_of
from txsse.client.machine import Inputs, ReadyState, new_machine
from txsse.client.options import Options
from txsse.client.response import Opens, Refuses, StreamRequest, judge
from txsse.client.stream import Body, Reading, cause_of, to_sse_error
from txsse.client.timers import NamedTimers
from txsse.client.tls import Policy
from txsse.errors import ConnectionFailed, PeerSilent, StreamEnded, StreamRefused
from txsse.protocol.parser import EventStreamParser, EventTooLarge

__all__ = ["Following"]

_log = Logger()

# As in browsers.
_MAX_REDIRECTS = 20

# The longest Last-Event-ID that is sent, in bytes. nginx and Apache accept lines of 8 KB, Twisted and Node
# heads of 16 KB; a request that they refuse would be refused again with each attempt.
_MAX_ID = 2**13 - len("Last-Event-ID: \r\n")

# If an unfinished line grows by this many bytes within the read time-out, the peer counts as alive. So does
# the line of a large event on a slow connection; single bytes that only keep a useless stream open do not.
_PROGRESS = 1024


class Following:
    """
    Carry out the steps of the state machine: requests, streams, time-outs and the waits between attempts.

    :param request: the first request.
    :param delay: the delays between attempts.
    :param options: the options.
    :param delivery: delivers the events to the program.
    :param agent: makes the requests; ``None`` for the default one.
    :param reactor: returns the reactor.
    :ivar machine: the state machine; every result of a step is reported to it.
    :ivar request: the request, after all redirects so far.
    :ivar ready_state: the state, as the standard numbers them.
    :ivar end: the error that closed the source; ``None`` if the program closed it, or it is not closed.
    :ivar last_error: the most recent error.
    :ivar when_open: the callers that wait for the open state.
    :ivar when_closed: the callers that wait for the closed state.
    :ivar parser: parses the stream, and keeps the last event ID across streams.
    """

    def __init__(
        self,
        request: StreamRequest,
        delay: Backoff,
        options: Options,
        delivery: Delivery,
        agent: IAgent | None,
        reactor: Callable[[], IReactorTime],
    ) -> None:
        self.machine: Inputs = new_machine(self)
        self.request = request
        self._first = request
        self.delay = delay
        self.ready_state = ReadyState.CONNECTING
        self.end: Exception | None = None
        self.last_error: Exception | None = None
        self.when_open: Waiters[None] = Waiters()
        self.when_closed: Waiters[Exception | None] = Waiters()
        self._options = options
        self._delivery = delivery
        self._agent = agent
        self._own_agent = agent is None
        self._policy = Policy()
        self._reactor = reactor
        self.parser = self._new_parser(delivery.delivered_id)
        # The last event ID that is sent with a request: that of the parser, unless it is too long.
        self._resume_id = ""
        self._warned = False
        # The bytes received of an unfinished line since the read time-out was last restarted.
        self._unfinished_bytes = 0
        self._pending: Deferred[IResponse] | Deferred[str] | None = None
        self._reading: Reading | None = None
        self._timers = NamedTimers(reactor)
        self._has_connected = False

    @property
    def reconnect_in(self) -> float | None:
        """
        The time until the next attempt, in seconds; ``None`` if none is scheduled.
        """
        return self._timers.left("retry")

    # Steps, which the machine calls: see :class:`txsse.client.machine.Steps`.

    def connect(self) -> None:
        """
        Send the request.
        """
        self._has_connected = True
        if self._agent is None:
            reactor = self._reactor()
            self._agent = Agent(
                reactor, self._policy, connectTimeout=self._options.connect_timeout, pool=new_pool(reactor)
            )
        self._timers.start("connect", self._options.connect_timeout, self._connect_timed_out)
        self._send(self.request, _MAX_REDIRECTS)

    def disconnect(self) -> None:
        """
        Abort the request or the stream.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.cancel()
        reading = self._reading
        self._read_from(None)
        if reading is not None:
            reading.give_up()

    def announce(self) -> None:
        """
        Enter the open state, and notify the callers of ``when_open``.
        """
        self.ready_state = ReadyState.OPEN
        self._timers.start("stable", self._options.reset_backoff_after, self.delay.reset)
        self._restart_read_timeout()
        self.when_open.fire(None)

    def wait(self, error: Exception, retry_after: float | None) -> None:
        """
        Report the error, and schedule the next attempt: after the delay, once all events are delivered.
        """
        self.ready_state = ReadyState.CONNECTING
        self._timers.cancel_all()
        self._timers.start("retry", self.delay.next(retry_after), self._delivery.when_empty, self.machine.due)
        self._report(error)

    def stop_waiting(self) -> None:
        """
        Cancel the timers.
        """
        self._timers.cancel_all()

    def finish(self, error: Exception | None) -> None:
        """
        Enter the closed state, and notify the program. Events received before an error are still delivered.
        """
        self.ready_state = ReadyState.CLOSED
        self._timers.cancel_all()
        self.end = error
        if error is None:
            self._delivery.pending.clear()
        else:
            self._report(error)
        self.when_open.fail(error or StreamEnded(self.request.url.to_text()))
        self.when_closed.fire(error)
        self._delivery.wake()

    def close_soon(self) -> None:
        """
        Close the source, because the program has lost its last reference; with callbacks, it stays open.

        The garbage collector calls this, in any thread and in the middle of any other code.
        """
        if not self._has_connected or self.ready_state is ReadyState.CLOSED or self._delivery.pushes:
            return
        reactor = self._reactor()
        threads = IReactorFromThreads(reactor, None)
        if threads is None:
            # A fake clock, which has no threads.
            reactor.callLater(0, self.machine.close)
        else:
            threads.callFromThread(self.machine.close)

    # Requests, responses and streams.

    def _send(self, request: StreamRequest, hops: int) -> None:
        fields = Headers({"Accept": ["text/event-stream"], "Cache-Control": ["no-cache"]})
        # The program's fields replace these; a name that it gives twice keeps both values.
        for name, _ in request.headers:
            fields.removeHeader(name)
        for name, value in request.headers:
            fields.addRawHeader(name.encode("ascii"), value if isinstance(value, bytes) else value.encode())
        if request.url.scheme == "https" and self._own_agent and find_spec("OpenSSL") is None:
            # Twisted's agent would raise NotImplementedError with each attempt.
            problem = "HTTPS needs pyOpenSSL: pip install 'txsse[tls]'"
            self.machine.refused(ConnectionFailed(request.url.to_text(), problem))
            return
        self._update_resume_id()
        if self._resume_id:
            fields.setRawHeaders(b"Last-Event-ID", [self._resume_id.encode()])
        body = None if request.body is None else Body(request.body)
        assert self._agent is not None
        pending: Deferred[IResponse] = maybeDeferred(
            self._agent.request,
            request.method.encode("ascii"),
            request.url.to_text().encode("ascii"),
            fields,
            body,
        )
        self._pending = pending
        pending.addCallbacks(
            self._on_response, self._on_failure, callbackArgs=(request, hops), errbackArgs=(pending, request)
        )
        pending.addErrback(lambda failure: _log.failure("following {url} failed", failure, url=request.url))

    def _on_response(self, response: IResponse, request: StreamRequest, hops: int) -> Deferred[None] | None:
        self._pending = None
        decision = judge(
            request,
            response.code,
            partial(fields_of, response),
            temporary=self._options.reconnect_on,
            now=wall(self._reactor()),
        )
        if isinstance(decision, Opens):
            self.request = request
            self._open(response)
            return None
        if isinstance(decision, Refuses):
            self._timers.cancel("connect")
            self._pending = excerpt = read_excerpt(response, self._reactor())
            return excerpt.addCallback(self._on_excerpt, excerpt, decision)
        discard(response)
        if hops:
            self._send(decision.request, hops - 1)
        else:
            problem = f"more than {_MAX_REDIRECTS} redirects"
            error = StreamRefused(problem, url=request.url.to_text(), status=response.code)
            self.machine.refused(error)
        return None

    def _on_excerpt(self, body: str, excerpt: Deferred[str], decision: Refuses) -> None:
        # The body of an error response has been read, as far as the error shows it.
        if self._pending is not excerpt:
            # The program closed the source meanwhile.
            return
        self._pending = None
        decision.error.body = body
        if decision.final:
            self.machine.refused(decision.error)
        else:
            self._retry_or_give_up(decision.error, decision.retry_after)

    def _open(self, response: IResponse) -> None:
        self._timers.cancel("connect")
        reading = Reading(self)
        self._read_from(reading)
        self.machine.opened()
        if self._reading is reading:
            reading.read(response)
        else:
            # A callback of ``when_open`` has closed the source.
            discard(response)

    def _on_failure(self, failure: Failure, pending: Deferred[IResponse], request: StreamRequest) -> None:
        if self._pending is pending:
            self._pending = None
            self._return_to_first_url()
            url, certificates = request.url.to_text(), self._policy.certificates()
            self._retry_or_give_up(to_sse_error(cause_of(failure), url, certificates=certificates))

    def _connect_timed_out(self) -> None:
        pending, self._pending = self._pending, None
        assert pending is not None
        pending.cancel()
        self._return_to_first_url()
        self._retry_or_give_up(PeerSilent(self._options.connect_timeout))

    def _return_to_first_url(self) -> None:
        """
        Use the first URL for the next request, because the last one of the redirects did not answer.

        The standard keeps the last one, even if that server no longer exists and the first URL would redirect
        to another. With a method other than GET, the URL stays: the redirected request may already have had
        its effect, and a request to the first URL could repeat it.
        """
        if self._first.method == "GET":
            self.request = self._first

    def stream_brought(self, reading: Reading, data: bytes) -> None:
        """
        Parse the bytes of a stream, and deliver their events.
        """
        self._unfinished_bytes += len(data)
        if self._unfinished_bytes >= _PROGRESS or b"\n" in data or b"\r" in data:
            self._restart_read_timeout()
        too_large: EventTooLarge | None = None
        try:
            events = self.parser.feed(data)
        except EventTooLarge as error:
            events, too_large = error.events, error
        if events:
            # A stream that delivers an event is a success, however short it is.
            self.delay.reset()
            self._update_resume_id()
        if self.parser.retry is not None:
            self.delay.base = self.parser.retry
        self._delivery.add(events)
        if too_large is not None and reading is self._reading:
            # After a reconnection the same event would arrive, and again be too large.
            self.machine.refused(too_large)

    def stream_resumed(self, reading: Reading) -> None:
        """
        Restart the read time-out, which does not count while the stream is paused.
        """
        self._restart_read_timeout()

    def stream_ended(self, reading: Reading, error: Exception | None) -> None:
        """
        Schedule a reconnection.
        """
        url = self.request.url.to_text()
        if error is None:
            self._stream_lost(StreamEnded(url))
        else:
            self._stream_lost(to_sse_error(error, url, "the stream was cut short: "))

    def _update_resume_id(self) -> None:
        # If an ID is too long to be sent, the previous one stays in use: the client receives some events
        # twice, but loses none.
        id = self.parser.last_event_id
        if len(id) <= _MAX_ID // 4 or len(id.encode()) <= _MAX_ID:
            self._resume_id = id
        elif not self._warned:
            self._warned = True
            url = without_secrets(self.request.url.to_text())
            _log.warn("{url}: an id of {size} characters is too long to resume from", url=url, size=len(id))

    def _stream_lost(self, error: Exception) -> None:
        self._read_from(None)
        # An event that began and did not end is discarded.
        self.parser = self._new_parser(self.parser.last_event_id)
        self._retry_or_give_up(error)

    def _new_parser(self, last_event_id: str) -> EventStreamParser:
        return EventStreamParser(self._options.max_event_size, last_event_id=last_event_id)

    def _read_from(self, reading: Reading | None) -> None:
        self._reading = reading
        self._delivery.read_from(reading)

    def _retry_or_give_up(self, error: Exception, retry_after: float | None = None) -> None:
        limit = self._options.max_attempts
        if limit is not None and self.delay.failures + 1 >= limit:
            self.machine.refused(error)
        else:
            self.machine.interrupted(error, retry_after)

    def _report(self, error: Exception) -> None:
        self.last_error = error
        if self._options.on_error is None:
            return
        try:
            self._options.on_error(error)
        except Exception:
            _log.failure("on_error failed")

    # Time-outs.

    def _restart_read_timeout(self) -> None:
        self._unfinished_bytes = 0
        if self._options.read_timeout is not None:
            self._timers.start(
                "silence", self._options.read_timeout, self._read_timed_out, self._options.read_timeout
            )

    def _read_timed_out(self, seconds: float) -> None:
        reading = self._reading
        # While this client has paused the stream, it receives nothing.
        if reading is not None and not reading.paused:
            reading.give_up()
            self._stream_lost(PeerSilent(seconds))
