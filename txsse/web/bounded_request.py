"""
Requests with limits on the memory and the time that their body and response take.

They remove four weaknesses of Twisted: it creates a temporary file for a body before the request is checked,
parses a form before the sender is authenticated, answers pipelined requests although the client does not read
the responses, and over HTTP/2 writes to streams that the client has reset.

Strategy: a request has a head, then a body, then a response. When a packet ends between head and body,
:meth:`BoundedRequest.look_ahead` decides whether the body is accepted. When the body is complete, ``process``
waits until :class:`~txsse.web.bounded_site.BoundedConnection` allows the response: the client must have read
enough of the previous ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, datetimeToString
from twisted.web.server import Request
from zope.interface import implementer

from txsse._twisted import http2
from txsse._twisted.http import UntypedRequest, head_of
from txsse._twisted.tcp import transport_of
from txsse.web.framing import refuse_framing
from txsse.web.http2_writer import Http2Writer
from txsse.web.redacted_request import without_token
from txsse.web.request_bounds import RequestOwner
from txsse.web.responses import Sentence

__all__ = ["BoundedRequest"]

# A body may exceed the limit by this factor: the excess is read and dropped, so that the client stays
# connected and reads the response.
_OVERDRAFT = 8

# The value of Retry-After if the server has no room for a body, in seconds.
_RETRY_AFTER = b"5"


class BoundedRequest(UntypedRequest):  # type: ignore[misc]
    """
    A request of a :class:`~txsse.web.bounded_site.BoundedSite`.

    :param connection: the connection of the request.
    :param channel: Twisted's own first argument.
    """

    def __init__(
        self, connection: RequestOwner, channel: HTTPChannel, *args: object, **options: object
    ) -> None:
        super().__init__(channel, *args, **options)
        self.content = BytesIO()
        self._connection = connection
        self._content_type: Sequence[bytes] | None = None
        # The body: bytes received, bytes held, whether it is kept, and the response if it is refused.
        self._size = 0
        self._held = 0
        self._wanted = True
        self._refusal: Sentence | None = None
        # Whether the whole request has been received, and whether the response was finished before that.
        self._complete = False
        self._finished_early = False
        self._deadline: IDelayedCall | None = None
        self._waiting: IDelayedCall | None = None
        # The writer of the response over HTTP/2, and whether the response is finished.
        self._writer: Http2Writer | None = None
        self._ending = False
        self._is_lost = False
        self._http2 = not isinstance(channel, HTTPChannel)
        if self._http2:
            self._deadline = connection.call_when_late(self._cut)
            # Set on the instance, because a stream of HTTP/1.1 writes directly to its socket only if the
            # class has Twisted's own method.
            self.write = self._write_http2

    def __repr__(self) -> str:
        # Log lines about failures contain this text.
        uri = without_token(self.uri).decode("latin-1")
        return f"<{type(self).__name__} {self.method.decode('latin-1')} {uri}>"

    # The body.

    def gotLength(self, length: int | None) -> None:  # noqa: N802
        """
        Register the body, if the request has one.

        The body is kept in memory: a temporary file would take a file descriptor.
        """
        if length == 0:
            self._wanted = False
            return
        self._connection.incoming.append(self)
        if length is not None and length > self._connection.site.max_body:
            self._refuse_size()
        if not self._http2 and self.requestHeaders.hasHeader(b"Expect"):
            # Checked before Twisted sends 100 Continue.
            self.look_ahead()
            if self.startedWriting:
                self.requestHeaders.removeHeader(b"Expect")

    def look_ahead(self) -> None:
        """
        Decide from the head whether the body is accepted; a response may be sent at once.
        """
        self._connection.incoming.remove(self)
        head = http2.head_of(self.channel) if self._http2 else head_of(self.channel)
        if head is None:
            # The request is checked when its body has been received.
            return
        self.method, self.uri, self.clientproto = head
        self.path = self.uri.partition(b"?")[0]
        self.setHeader(b"Date", datetimeToString())
        if self._refusal is None and not self._connection.site.wants_body(self):
            self._drop_body()
        if self._refusal is not None:
            self._refusal.render(self)

    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """
        Receive a part of the body.
        """
        site = self._connection.site
        self._size += len(data)
        if self._size > site.max_body * _OVERDRAFT:
            self._cut()
        elif self._size > site.max_body:
            self._refuse_size()
        elif self._wanted and site.bodies + len(data) > site.max_bodies:
            self.setHeader(b"Retry-After", _RETRY_AFTER)
            self._refuse(503, "the server holds too many request bodies at the moment")
        elif self._wanted:
            self._held += len(data)
            site.bodies += len(data)
            self.content.write(data)

    def _refuse_size(self) -> None:
        self._refuse(413, f"a request body may have at most {self._connection.site.max_body} bytes")

    def _refuse(self, status: int, why: str) -> None:
        if self._refusal is None:
            self._refusal = Sentence(status, why)
        self._drop_body()

    def _drop_body(self) -> None:
        self._wanted = False
        self._release_body()
        self.content = BytesIO()

    def _release_body(self) -> None:
        self._connection.site.bodies -= self._held
        self._held = 0

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:  # noqa: N802
        """
        Receive the end of the request.

        Unless the site parses forms, the ``Content-Type`` is hidden from Twisted, which would otherwise parse
        a form here, with any number of fields.
        """
        self._complete = True
        if self in self._connection.incoming:
            self._connection.incoming.remove(self)
        if not self._connection.site.parse_forms:
            self._content_type = self.requestHeaders.getRawHeaders(b"Content-Type")
            self.requestHeaders.removeHeader(b"Content-Type")
        super().requestReceived(command, path, version)

    # The answer.

    def process(self) -> None:
        """
        Send the response as soon as the client has read enough of the previous ones.
        """
        if self._content_type is not None:
            self.requestHeaders.setRawHeaders(b"Content-Type", self._content_type)
        self._connection.request_received()
        if self._finished_early:
            BoundedRequest.finish(self)
        elif self._http2:
            # Deferred, since the packet that brought the request may also contain its reset, which h2 knows
            # and Twisted does not know yet.
            self._waiting = self._connection.call_soon(self._answer_or_wait)
        else:
            self._answer_or_wait()

    def _answer_or_wait(self) -> None:
        self._waiting = None
        if not self._connection.may_answer(self):
            if self._deadline is None:
                self._deadline = self._connection.call_when_late(self._cut)
            return
        self._expect_nothing()
        refusal = self._refusal
        framing = refuse_framing(self)
        if framing is not None:
            refusal = Sentence(400, framing)
        elif refusal is None:
            refusal = self._connection.site.refuse(self)
        if refusal is None:
            super().process()
        else:
            refusal.render(self)

    def try_to_answer(self) -> None:
        """
        Send the response, if the client has read enough by now.
        """
        self._answer_or_wait()

    def wait_for_turn(self) -> None:
        """
        Try to send the response in the next turn of the reactor.
        """
        self._waiting = self._connection.call_soon(self._answer_or_wait)

    def wait_for_transport(self) -> None:
        """
        Try to send the response when the transport has sent its buffer.
        """
        self.registerProducer(_Waiting(self), True)

    def transport_ready(self) -> None:
        """
        Try to send the response: the transport has sent its buffer.
        """
        self.unregisterProducer()
        self._answer_or_wait()

    def finish(self) -> None:
        """
        End the response, after the request is complete and the client has read the previous data.
        """
        if not self._complete:
            self._finished_early = True
            return
        if self._writer is None or not self._writer.kept:
            self.end()
        else:
            self._ending = True

    def end(self) -> None:
        """
        End the response: nothing is waiting to be sent.

        A resource may have replaced ``finish`` on the request, so this does not call it.
        """
        self._expect_nothing()
        self._release_body()
        if self._writer is not None:
            self._stop_writing()
            self.unregisterProducer()
        super().finish()
        self._connection.answered(self)

    def _write_http2(self, data: bytes) -> None:
        """
        Write a part of the response, no more than the client's window allows.

        Twisted's sending loop would use a whole processor until the window opens.
        """
        if self._writer is None and (self.producer is not None or not data or self.finished or self._is_lost):
            Request.write(self, data)
            return
        if self._writer is None:
            # Write the head.
            Request.write(self, b"")
            if self.method == b"HEAD":
                return
            stream = http2.stream_of(self)
            if stream is None:
                Request.write(self, data)
                return
            self._writer = Http2Writer(stream, self._hand_over, self._emptied)
            self.registerProducer(self._writer, True)
            self._connection.answering.append(self)
            self.progress()
        self._writer.write(data)

    def _hand_over(self, piece: bytes) -> None:
        Request.write(self, piece)
        self.progress()

    def _emptied(self) -> None:
        if self._ending:
            self.end()

    def _stop_writing(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.stop()

    @property
    def unsent(self) -> int:
        """
        How many bytes of the response wait for the client, over HTTP/2.
        """
        return 0 if self._writer is None else self._writer.kept

    def stream_detached(self) -> None:
        """
        Release the body and the deadline: a stream has replaced this request, and will not report its end.
        """
        self._expect_nothing()
        self._release_body()

    def connectionLost(self, reason: Failure) -> None:
        """
        Clean up: the client has disconnected.
        """
        self._expect_nothing()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        self._is_lost = True
        self._stop_writing()
        if self in self._connection.incoming:
            self._connection.incoming.remove(self)
        self._release_body()
        super().connectionLost(reason)
        self._connection.answered(self)

    @property
    def is_complete(self) -> bool:
        """
        Whether the whole request has been received.
        """
        return self._complete

    @property
    def is_http2(self) -> bool:
        """
        Whether it is a stream of an HTTP/2 connection.
        """
        return self._http2

    def progress(self) -> None:
        """
        Restart the deadline: the client has read a part of the response.
        """
        self._expect_nothing()
        self._deadline = self._connection.call_when_late(self._cut)

    def _expect_nothing(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    def _cut(self) -> None:
        self._expect_nothing()
        if self._http2:
            http2.reset(self)
        else:
            transport_of(self.channel).abortConnection()


@implementer(IPushProducer)
class _Waiting:
    """
    A producer that resumes a request when its connection can send again.
    """

    def __init__(self, request: BoundedRequest) -> None:
        self._request = request

    def pauseProducing(self) -> None:
        """
        Do nothing: nothing is produced.
        """

    def resumeProducing(self) -> None:
        """
        Resume the request: the connection has sent its buffer.
        """
        self._request.transport_ready()

    def stopProducing(self) -> None:
        """
        Do nothing: the request is notified when the connection ends.
        """
