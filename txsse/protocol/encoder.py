"""
Encode events, comments, reconnection times and IDs to bytes of an event stream.

Each function returns whole blocks, with the empty line that ends them, so that any two results can be joined.
A :class:`~txsse.ServerSentEvent` is always encodable; only the text of a comment can still be invalid.
"""

from __future__ import annotations

from txsse._arguments import wrong_type
from txsse.protocol.event import ServerSentEvent, check_text
from txsse.protocol.fields import NO_ID, NO_TYPE

__all__ = ["encode_comment", "encode_event", "encode_id", "encode_retry"]


def encode_event(event: ServerSentEvent) -> bytes:
    """
    Encode an event.

    :param event: the event.
    :returns: its block, in UTF-8.
    :raises TypeError: if the argument is not an event.

    Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
    """
    head = ""
    try:
        retry = event.retry
    except AttributeError:
        raise wrong_type("event", event, "a ServerSentEvent, such as ServerSentEvent('data')") from None
    if retry is not None:
        head = f"retry: {_milliseconds(retry)}\n"
    if event.id is not None and event.id is not NO_ID:
        head += f"id: {event.id}\n"
    if event.event and event.event is not NO_TYPE:
        head += f"event: {event.event}\n"
    return f"{head}data: {_continued(event.data, 'data: ')}\n\n".encode()


def encode_comment(text: str) -> bytes:
    """
    Encode a comment, which every client ignores: a keep-alive, or a note for a reader of the raw stream.

    :param text: the comment; each of its lines becomes a comment line. ``""`` gives the shortest comment.
    :returns: its block, in UTF-8.
    :raises InvalidField: if the text contains a lone surrogate.
    """
    text = check_text("comment", text)
    if not text:
        return b":\n\n"
    return f": {_continued(text, ': ')}\n\n".encode()


def encode_retry(retry: float) -> bytes:
    """
    Encode a reconnection time without an event.

    :param retry: the time in seconds.
    :returns: its block.
    :raises InvalidField: as :class:`txsse.ServerSentEvent` does.
    """
    return f"retry: {_milliseconds(ServerSentEvent(retry=retry).retry or 0)}\n\n".encode()


def encode_id(id: str) -> bytes:
    """
    Encode an ID without an event: the client delivers no event, and resumes from the ID when it reconnects.

    :param id: the id.
    :returns: its block.
    :raises InvalidField: as :class:`txsse.ServerSentEvent` does.
    """
    return f"id: {ServerSentEvent(id=id).id}\n\n".encode()


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _continued(text: str, prefix: str) -> str:
    """
    Prefix each further line of a text.

    Only CR LF, LF and CR end a line: ``str.splitlines`` would also split at U+2028 and eight other
    characters, and change the text.
    """
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in text:
        text = text.replace("\n", "\n" + prefix)
    return text
