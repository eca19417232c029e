"""
The beginning of a reply that opens no stream: its body says what is wrong, and often what to do.
"""

from __future__ import annotations

from email.message import Message

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IResponse

from txsse.client.fields import fields_of, is_compressed
from txsse.web.body import BodyReader

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
    reader = BodyReader(_SIZE)
    reading = reader.read(response).addTimeout(_PATIENCE, reactor)
    # However it ended.
    return reading.addBoth(lambda _: _decode(reader.received, response))


def discard(response: IResponse) -> None:
    """
    Read nothing, and cut the connection.
    """
    reader = BodyReader(0)
    # What has come already may be too much.
    reader.read(response).addErrback(lambda _: None)
    reader.abort()


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
