"""
Updates: events as they are published, with their topics; and ephemeral ones, which no journal records.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from txsse._arguments import wrong_type
from txsse.errors import InvalidField
from txsse.journal.retention import UNRETAIN_TYPE, Retention
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent, check_text
from txsse.topics.topic_set import ALL

__all__ = ["EARLIEST", "MAX_ID_BYTES", "EphemeralUpdate", "Update"]

# The Last-Event-ID with which a client requests all updates that the journal holds. The response header names
# the same value if the replay begins there.
EARLIEST = "earliest"

# The client sends an id back in a header field, whose length is limited; see ``max_last_event_id`` of the
# upgrader.
MAX_ID_BYTES = 1024


class Update:
    """
    An event and the topics that it is published to. It is immutable.

    :param topics: one topic or several; the first is the canonical one (a term of Mercure). A topic is any
        string except ``*``.
    :param event: the event. It must have an id, from which a client resumes.
    :param private: whether to send it only to subscribers that are granted access to private updates of one
        of its topics.
    :param retention: how the journal retains it; ``None`` for an update that is not retained. With an event
        of the type ``unretain`` whose data is the key, the update removes the retained one.
    :ivar id: the event's id.
    :ivar frame: the event as sent on the wire, encoded once for all subscribers.
    :raises InvalidField: if it has no topic, or a topic is ``*`` or has a lone surrogate; if a client could
        not send the id back, because it is empty, has spaces around it, or is longer than ``MAX_ID_BYTES``;
        if the id has another meaning, because it is ``earliest`` or begins with ``#``; if it is retained, has
        the type ``unretain``, and its data is not the key, or it has a time.
    :raises TypeError: if a topic is not a string.
    """

    __slots__ = ("event", "frame", "id", "private", "retention", "topics")

    def __init__(
        self,
        topics: str | Iterable[str],
        event: ServerSentEvent,
        *,
        private: bool = False,
        retention: Retention | None = None,
    ) -> None:
        self.topics = _check_topics(topics)
        try:
            id = event.id
        except AttributeError:
            wanted = "a ServerSentEvent, such as ServerSentEvent('data', id='7')"
            raise wrong_type("event", event, wanted) from None
        self.id = _check_id(id)
        self.event = event
        self.private = private
        self.retention = retention
        if retention is not None:
            _check_retention(retention, event)
        self.frame = encode_event(event)

    @property
    def unretains(self) -> bool:
        """
        Whether it removes the retained update with its key.
        """
        return self.retention is not None and self.event.event == UNRETAIN_TYPE

    @property
    def subject(self) -> tuple[str, ...]:
        """
        That of which the overflow policy ``latest`` keeps the newest update: a retained key, or a topic.
        """
        # A tuple, which no event type equals. A removal has the key of what it removes, and replaces that.
        if self.retention is not None:
            return "key", self.topics[0], self.retention.key
        return "topic", self.topics[0]

    @property
    def frame_without_id(self) -> bytes:
        """
        The event as sent on the wire, without its ID: a client that receives it does not resume after it.
        """
        if self.event.retry is None:
            id = self.id
            return self.frame[len("id: \n") + (len(id) if id.isascii() else len(id.encode())) :]
        # Only the reconnection time, which is a number, is before the ID.
        return self.frame.replace(b"id: %b\n" % self.id.encode(), b"", 1)

    def __repr__(self) -> str:
        return f"<Update {self.id} to {', '.join(self.topics)}{' private' if self.private else ''}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Update):
            return NotImplemented
        return (self.topics, self.event, self.private, self.retention) == (
            other.topics,
            other.event,
            other.private,
            other.retention,
        )

    def __hash__(self) -> int:
        return hash((self.topics, self.event, self.private))


class EphemeralUpdate:
    """
    An ephemeral event and its topics: it is sent to live subscribers, and no journal records it.

    It has no id, because no client can resume from it.

    :param topics: as for :class:`Update`.
    :param event: the event, without an id.
    :param private: as for :class:`Update`.
    :raises InvalidField: as for :class:`Update`; also if the event has an id.
    """

    __slots__ = ("frame", "private", "topics")

    def __init__(self, topics: str | Iterable[str], event: ServerSentEvent, *, private: bool = False) -> None:
        if event.id is not None:
            raise InvalidField("id", "an ephemeral event has no id, as no client can resume from it")
        self.topics = _check_topics(topics)
        self.private = private
        self.frame = encode_event(event)

    @property
    def subject(self) -> tuple[str, ...]:
        """
        The same as that of an :class:`Update`.
        """
        return "topic", self.topics[0]


def _check_retention(retention: Retention, event: ServerSentEvent) -> None:
    if not isinstance(retention, Retention):
        raise wrong_type("retention", retention, "a Retention, such as Retention('device-7')")
    if event.event == UNRETAIN_TYPE and (event.data != retention.key or retention.seconds is not None):
        raise InvalidField(
            "retain",
            f"an update of the type {UNRETAIN_TYPE!r} removes a key, which must be its data, and has no time",
        )


def _check_topics(topics: str | Iterable[str]) -> tuple[str, ...]:
    if isinstance(topics, str):
        return _single(topics)
    if isinstance(topics, bytes) or not isinstance(topics, Iterable):
        raise wrong_type("topics", topics, "str, such as 'news', or several of them")
    # A dict removes duplicates and keeps the order: the first topic is the canonical one.
    several = tuple(dict.fromkeys(map(_check_topic, topics)))
    if not several:
        raise InvalidField("topics", "an update needs a topic")
    return several


# Most updates are published to the same few topics: the cache saves the check and the tuple.
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
        raise InvalidField("id", "an update needs an id, from which a client resumes")
    if id == EARLIEST:
        raise InvalidField("id", f"{EARLIEST!r} is reserved: clients send it to request all held updates")
    if id[0] == "#":
        raise InvalidField("id", "begins with '#', which is reserved for resume IDs")
    if id != id.strip():
        raise InvalidField(
            "id", "begins or ends with white space, which is lost when a client sends it in a header"
        )
    if len(id) > MAX_ID_BYTES or (not id.isascii() and len(id.encode()) > MAX_ID_BYTES):
        raise InvalidField("id", f"has more than {MAX_ID_BYTES} bytes")
    return id
