"""
Read the beginning of a reply that opens no stream: its body says what is wrong, and often what to do.
"""

from __future__ import annotations

from email.message import Message

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IResponse

from txsse.client.fields import fields_of, is_compressed
from txsse.web.body import BodyReader

__all__ = ["discard", "read_excerpt"]

# The number of bytes that are read: enough for a problem in JSON, or the head of a page. The body may have no
# end.
_MAX_SIZE = 4096

# The seconds that the body may take to arrive: the program receives the error only after it.
_TIMEOUT = 3.0


def read_excerpt(response: IResponse, reactor: IReactorTime) -> Deferred[str]:
    """
    Read the beginning of a body, and abort the rest.

    :returns: a Deferred of the text that arrived in time, decoded with its charset. Cancelling it aborts the
        reading.
    """
    if is_compressed(fields_of(response, "Content-Encoding")):
        discard(response)
        return succeed("")
    reader = BodyReader(_MAX_SIZE)
    reading = reader.read(response).addTimeout(_TIMEOUT, reactor)
    # Also after a time-out or a lost connection: the text that has arrived is returned.
    return reading.addBoth(lambda _: _decode(reader.received, response))


def discard(response: IResponse) -> None:
    """
    Read nothing of a body, and abort the connection.
    """
    reader = BodyReader(0)
    # The bytes that have already arrived may exceed the reader's limit: it then fails.
    reader.read(response).addErrback(lambda _: None)
    reader.abort()


def _decode(data: bytes, response: IResponse) -> str:
    message = Message()
    message["Content-Type"] = ", ".join(fields_of(response, "Content-Type"))
    try:
        text = data.decode(message.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        # An unknown charset.
        text = data.decode("utf-8", "replace")
    # The limit may have cut the last character.
    return text.rstrip("\ufffd") if len(data) == _MAX_SIZE else text
