"""
Sinks for streams of HTTP/2, where the client's flow-control windows limit what is sent.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall
from twisted.web.http import Request

from txsse._reactor import global_reactor
from txsse._twisted.http2 import Http2Stream, reset, stream_of
from txsse.server.sinks.request import RequestSink
from txsse.web.http2_writer import Http2Writer

__all__ = ["Http2Sink", "PlainHttp2Sink", "http2_sink"]


def http2_sink(request: Request) -> RequestSink:
    """
    Return a sink for an HTTP/2 request whose response headers have been written.
    """
    stream = stream_of(request)
    return PlainHttp2Sink(request) if stream is None else Http2Sink(request, stream)


class Http2Sink(RequestSink):
    """
    Writes to a stream of an HTTP/2 connection, no more than the client's windows allow.

    :class:`~txsse.web.http2_writer.Http2Writer` says how.

    :param request: the request.
    :param stream: the stream of the request.
    """

    def __init__(self, request: Request, stream: Http2Stream) -> None:
        super().__init__(request)
        self._finishing = False
        self._writer = Http2Writer(stream, request.write, self._emptied)

    def write(self, frame: bytes) -> None:
        """
        Send a frame, or keep it until a window opens.
        """
        self._writer.write(frame)
        self.blocked = self._writer.blocked

    def finish(self) -> None:
        """
        End the response, once everything that is kept has been sent.
        """
        if self._writer.kept:
            self._finishing = True
        else:
            super().finish()

    def abort(self) -> None:
        """
        Reset the stream in the next turn of the reactor; the connection's other streams continue.
        """
        # Deferred, as a TCP transport does it: a fan-out must not see a channel end while it sends.
        self._writer.stop_and_call_soon(self._reset)

    def _reset(self) -> None:
        reset(self._request)

    def detach(self) -> None:
        """
        Forget the owner.
        """
        super().detach()
        self._writer.stop()

    def poke(self) -> None:
        """
        Check whether the client's windows allow more.
        """
        self._writer.poke()

    def pauseProducing(self) -> None:
        """
        Do nothing: the writer knows that the window is used up.
        """

    def resumeProducing(self) -> None:
        """
        Continue: a window has opened.
        """
        self._writer.poke()

    def _emptied(self) -> None:
        if self._finishing:
            super().finish()
        elif self.blocked:
            self.blocked = False
            self._ready()


class PlainHttp2Sink(RequestSink):
    """
    Writes to an HTTP/2 stream through Twisted, if Twisted's HTTP/2 objects are not as expected.

    Twisted queues what is written, and pauses its producer when the client's window is used up.
    """

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._call: IDelayedCall | None = None

    def abort(self) -> None:
        """
        Reset the stream in the next turn of the reactor; the connection's other streams continue.
        """
        if self._call is None:
            self._call = global_reactor().callLater(0, self._reset)

    def _reset(self) -> None:
        self._call = None
        reset(self._request)

    def detach(self) -> None:
        """
        Forget the owner.
        """
        super().detach()
        if self._call is not None:
            self._call.cancel()
            self._call = None
