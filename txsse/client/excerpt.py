"""
The beginning of a reply that opens no stream: its body says what is wrong, and often what to do.
"""

from __future__ import annotations

from email.message import Message

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IResponse

from txsse.client.fields import fields_of, is_compressed
from txsse.client.stream import Reading

__all__ = ["discard", "read_excerpt"]

# How much is read, in bytes: a problem in JSON, or the head of a page. The server may send without end.
_SIZE = 4096

# How long the body may take to come, in seconds: the program learns of the refusal only after it.
_PATIENCE = 3.0


def read_excerpt(response: IResponse, reactor: IReactorTime) -> Deferred[str]:
    """
    Read the beginning of a body, and give up the rest.

    :returns: a Deferred of what came in time, decoded as its charset says. To cancel it ends the reading.
    """
    if is_compressed(fields_of(response, "Content-Encoding")):
        discard(response)
        return succeed("")
    excerpt = _Excerpt()
    done: Deferred[bytes] = excerpt.done.addTimeout(_PATIENCE, reactor)
    excerpt.reading.read(response)
    return done.addCallback(_decode, response)


def discard(response: IResponse) -> None:
    """
    Read nothing, and cut the connection.
    """
    reading = Reading(None)
    response.deliverBody(reading)
    reading.give_up()


class _Excerpt:
    def __init__(self) -> None:
        self.reading = Reading(self)
        self.done: Deferred[bytes] = Deferred(lambda _: self._end())
        self._data = bytearray()

    def stream_brought(self, reading: Reading, data: bytes) -> None:
        self._data += data
        if len(self._data) >= _SIZE:
            self._end()

    def stream_resumed(self, reading: Reading) -> None:
        """
        It is never paused.
        """

    def stream_ended(self, reading: Reading, error: Exception | None) -> None:
        self.done.callback(bytes(self._data))

    def _end(self) -> None:
        self.reading.give_up()
        self.done.callback(bytes(self._data[:_SIZE]))


def _decode(data: bytes, response: IResponse) -> str:
    message = Message()
    message["Content-Type"] = ", ".join(fields_of(response, "Content-Type"))
    try:
        text = data.decode(message.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        # A charset that is none.
        text = data.decode("utf-8", "replace")
    # Of the last character, a part may be missing.
    return text.rstrip("\ufffd") if len(data) == _SIZE else text
