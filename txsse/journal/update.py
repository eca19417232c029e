"""
An event as it is published.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from txsse._arguments import wrong_type
from txsse.errors import InvalidField
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent, check_text

__all__ = ["ALL", "EARLIEST", "MAX_ID_BYTES", "EphemeralUpdate", "Update"]

# What stands for all topics, and can be none.
ALL = "*"

# What a client sends as its Last-Event-ID to get all that the journal holds, and what it is told where a
# replay began there.
EARLIEST = "earliest"

# An id comes back in a header field; see ``max_last_event_id`` of the upgrader.
MAX_ID_BYTES = 1024


class Update:
    """
    An event together with the topics it is published to. It does not change.

    :param topics: a topic or several; the first one is the canonical one. A topic is any string but ``*``.
    :param event: the event. It has an id, by which a client resumes.
    :param private: whether only those may have it who were granted that.
    :ivar id: the event's id.
    :ivar frame: the event as it goes over the wire, encoded once for all who get it.
    :raises InvalidField: for no topic at all, ``*``, a lone surrogate in a topic, and for an id that no
        client could send back: empty, with spaces around it, longer than ``MAX_ID_BYTES``; for
        ``earliest``, and one that begins with ``#``, which mean something else.
    :raises TypeError: for a topic that is no string.
    """

    __slots__ = ("event", "frame", "id", "private", "topics")

    def __init__(self, topics: str | Iterable[str], event: ServerSentEvent, *, private: bool = False) -> None:
        self.topics = _check_topics(topics)
        try:
            id = event.id
        except AttributeError:
            wanted = "a ServerSentEvent, such as ServerSentEvent('data', id='7')"
            raise wrong_type("event", event, wanted) from None
        self.id = _check_id(id)
        self.event = event
        self.private = private
        self.frame = encode_event(event)

    def __repr__(self) -> str:
        return f"<Update {self.id} to {', '.join(self.topics)}{' private' if self.private else ''}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Update):
            return NotImplemented
        return (self.topics, self.event, self.private) == (other.topics, other.event, other.private)

    def __hash__(self) -> int:
        return hash((self.topics, self.event, self.private))


class EphemeralUpdate:
    """
    An event for those who listen at the moment, which no journal keeps. It has no id, since nobody can resume
    from it.

    :param topics: as of an :class:`Update`.
    :param event: the event, without an id.
    :param private: as of an :class:`Update`.
    :raises InvalidField: as :class:`Update` does, and for an id.
    """

    __slots__ = ("frame", "private", "topics")

    def __init__(self, topics: str | Iterable[str], event: ServerSentEvent, *, private: bool = False) -> None:
        if event.id is not None:
            raise InvalidField("id", "what is not recorded has none: nobody could resume from it")
        self.topics = _check_topics(topics)
        self.private = private
        self.frame = encode_event(event)


def _check_topics(topics: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(topics, str):
        return _single(topics)
    # A dict, because the first one comes first, and each counts once.
    if isinstance(topics, bytes) or not isinstance(topics, Iterable):
        raise wrong_type("topics", topics, "str, such as 'news', or several of them")
    several = tuple(dict.fromkeys(map(_check_topic, topics)))
    if not several:
        raise InvalidField("topics", "an update needs a topic")
    return several


# Most of what is published goes to the same few topics again.
@lru_cache(maxsize=1024)
def _single(topic: str) -> tuple[str, ...]:
    return (_check_topic(topic),)


def _check_topic(topic: str) -> str:
    topic = check_text("topics", topic)
    if topic == ALL:
        raise InvalidField("topics", "'*' stands for all topics, and cannot be published to")
    return topic


def _check_id(id: str | None) -> str:
    if not id:
        raise InvalidField("id", "an update needs an id; a client resumes from it")
    if id == EARLIEST:
        raise InvalidField("id", f"{EARLIEST!r} stands for everything that the journal holds")
    if id[0] == "#":
        raise InvalidField("id", "begins with '#', as names of places in a journal do")
    if id != id.strip():
        raise InvalidField("id", "begins or ends with a space, which a header field loses on the way back")
    if len(id) > MAX_ID_BYTES or (not id.isascii() and len(id.encode()) > MAX_ID_BYTES):
        raise InvalidField("id", f"has more than {MAX_ID_BYTES} bytes")
    return id
