"""
What can go wrong, as one small tree::

    SSEError
    ├── InvalidField     (also a ValueError)  a value that the wire format has no place for
    ├── EventTooLarge    a stream that exceeds the parser's limit
    ├── ChannelClosed    a frame for a stream that has ended
    ├── UpgradeRefused   a request that got another answer than a stream
    ├── UpdateTooLarge   an update that exceeds the hub's limit
    ├── BatchTooLarge    more updates than a journal records in one transaction
    ├── TooManyTopics    a subscription that exceeds the hub's limit
    ├── TooManyPatterns  a subscription whose patterns exceed what is left of the hub's limit
    ├── HubStopped       an update for a hub that has stopped
    ├── JournalFailed    a journal that cannot be read or written at the moment
    ├── NotAcknowledged  a message to all nodes of a cluster that some have not acknowledged
    ├── StreamRefused    a reply that opens no stream, to a client
    ├── InvalidResponse      a reply that a client cannot make sense of
    ├── ConnectionFailed a connection that a client cannot make, or has lost
    ├── StreamEnded      the end of a stream, as a client sees it
    └── PeerSilent       a server that a client has not heard of for too long
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from txsse._redact import without_secrets

__all__ = [
    "BatchTooLarge",
    "ChannelClosed",
    "CloseReason",
    "ConnectionFailed",
    "EventTooLarge",
    "HubStopped",
    "InvalidField",
    "InvalidResponse",
    "JournalFailed",
    "NotAcknowledged",
    "PeerSilent",
    "SSEError",
    "StreamEnded",
    "StreamRefused",
    "TooManyPatterns",
    "TooManyTopics",
    "UpdateTooLarge",
    "UpgradeRefused",
]

_ASCII_NAMES = {"\n": "line feed", "\r": "carriage return", "\0": "null"}


class SSEError(Exception):
    """
    The root of every error that txsse raises on purpose.
    """


class InvalidField(SSEError, ValueError):
    """
    A field holds a value that cannot be sent: written as it is, it would end its line early, inject
    another field, or reach the client as something else.

    :ivar field: the name of the field: ``data``, ``event``, ``id``, ``retry`` or ``comment``.
    :ivar position: where in the value, counted from 0; ``None`` where the value as a whole is wrong.
    :ivar character: the character at that position; ``None`` where the value as a whole is wrong.
    """

    def __init__(
        self,
        field: str,
        problem: str,
        *,
        position: int | None = None,
        character: str | None = None,
    ) -> None:
        where = ""
        if character is not None:
            name = _ASCII_NAMES.get(character) or unicodedata.name(character, "")
            where = f"U+{ord(character):04X}{f' ({name})' if name else ''} at position {position} "
        super().__init__(f"{field}: {where}{problem}")
        self.field = field
        self.position = position
        self.character = character


class EventTooLarge(SSEError):
    """
    A line or an event of the stream exceeds the parser's ``max_event_size``.

    :ivar limit: the limit, in bytes.
    :ivar events: the :class:`~txsse.ServerSentEvent` objects that were complete before it, in the same
        call to ``feed``.
    """

    def __init__(self, limit: int, events: list[Any]) -> None:
        super().__init__(
            f"the stream holds an event of more than {limit} bytes; a larger max_event_size would accept it"
        )
        self.limit = limit
        self.events = events


class CloseReason(Enum):
    """
    What ended a channel.
    """

    CLIENT_GONE = auto()
    """The client closed the connection, or the network lost it."""

    SERVER_CLOSED = auto()
    """``close()`` was called, or the handler came to its end."""

    HANDLER_FAILED = auto()
    """The handler raised; the log holds the traceback."""

    SLOW_READER = auto()
    """More than ``max_buffer`` bytes waited for a client whose policy is ``close``."""

    FLUSH_TIMEOUT = auto()
    """``close()`` was called, and the client did not take what was left within ``flush_timeout``."""

    MAX_LIFETIME = auto()
    """The stream reached its ``max_lifetime``."""

    EXPIRED = auto()
    """What allowed the stream to be read has expired."""

    DRAINED = auto()
    """The hub stopped, and sent its subscribers elsewhere."""

    SHUTDOWN = auto()
    """The reactor stopped."""

    PEER_TIMEOUT = auto()
    """The client acknowledged nothing, or read nothing, for ``peer_timeout``: the system closed the
    connection."""


class ChannelClosed(SSEError):
    """
    A frame cannot be sent, because the channel is closed or closing.

    :ivar reason: what ended the channel, a :class:`CloseReason`.
    """

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(
            f"the channel is closed ({reason.name}); ask is_open first, or wait for when_closed()"
        )
        self.reason = reason


class UpgradeRefused(SSEError):
    """
    A request did not become a stream. Where the upgrader raises this, the client has been answered already:
    there is nothing left to do for the caller but to return ``NOT_DONE_YET`` (or, in a route of Klein's,
    ``None``). Where the callable of :meth:`txsse.Hub.resource` raises it, the client is answered so.

    :ivar status: the HTTP status that the client got; ``None`` where it could not be answered, because
        it has gone or because the response had begun before.
    :ivar reason: why, in one sentence, which the client is told.
    :ivar headers: further headers of the answer, such as ``WWW-Authenticate``.
    """

    def __init__(self, reason: str, *, status: int | None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {reason}" if status is not None else reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class UpdateTooLarge(SSEError):
    """
    An update is larger than the hub's ``max_update_size``.

    :ivar size: how many bytes it takes on the wire.
    :ivar limit: how many it may.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the update takes {size} bytes; max_update_size is {limit}")
        self.size = size
        self.limit = limit


class BatchTooLarge(SSEError):
    """
    A batch has more updates, or more bytes, than a journal records in one transaction.

    :ivar count: the number of its updates.
    :ivar size: how many bytes they take on the wire.
    :ivar max_count: the limit for the number.
    :ivar max_size: the limit for the bytes.
    """

    def __init__(self, count: int, size: int, *, max_count: int, max_size: int) -> None:
        super().__init__(
            f"{count} updates of {size} bytes in one batch; a transaction takes at most {max_count} updates "
            f"and {max_size} bytes: append several smaller batches"
        )
        self.count = count
        self.size = size
        self.max_count = max_count
        self.max_size = max_size


class TooManyTopics(SSEError):
    """
    A subscription names more topics and patterns than the hub's ``max_topics``.

    :ivar count: how many it names.
    :ivar limit: how many it may.
    """

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"{count} topics in one subscription; {limit} is the limit")
        self.count = count
        self.limit = limit


class TooManyPatterns(SSEError):
    """
    A subscription's patterns would take the hub above its ``max_pattern_weight``.

    :ivar limit: what all of its patterns may weigh together.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            "the hub holds as many patterns as it may: ask for exact topics, or try again later "
            f"(max_pattern_weight is {limit})"
        )
        self.limit = limit


class HubStopped(SSEError):
    """
    The hub has been stopped: it takes no updates and no subscribers any more.
    """

    def __init__(self) -> None:
        super().__init__("the hub has been stopped")


class JournalFailed(SSEError):
    """
    A journal cannot be read or written. Where it comes from an update's publication, the update is not
    recorded, unless ``uncertain`` says otherwise; in any case it may be published again, with the same id.

    :ivar journal: which one.
    :ivar problem: what is wrong, and what to do.
    :ivar uncertain: whether the update may have been recorded all the same.
    """

    def __init__(self, journal: str, problem: str, *, uncertain: bool = False) -> None:
        super().__init__(f"{journal}: {problem}")
        self.journal = journal
        self.problem = problem
        self.uncertain = uncertain


class NotAcknowledged(SSEError):
    """
    Nodes of a cluster failed to do what a message asks for, or did not acknowledge it by the deadline. The
    other nodes have acknowledged it.

    :ivar nodes: the names of these nodes.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        super().__init__(f"nodes have not acknowledged a message: {', '.join(nodes)}; see their logs")
        self.nodes = list(nodes)


class StreamRefused(SSEError):
    """
    A server did not open the stream that a client asked for.

    :ivar url: what was asked for, behind all redirects.
    :ivar status: the status of the reply.
    :ivar body: the beginning of its body, at most 4 KiB, decoded as its charset says; ``""`` for a compressed
        one. It is the server's text, and may hold anything.
    """

    def __init__(self, problem: str, *, url: str, status: int, body: str = "") -> None:
        super().__init__(f"{without_secrets(url)}: {problem}")
        self.url = url
        self.status = status
        self.body = body


class InvalidResponse(SSEError):
    """
    What a server answered is no HTTP, or more of it than anybody needs.
    """


class ConnectionFailed(SSEError):
    """
    A client cannot connect to a server, or the connection was lost: before the reply, or within a stream
    whose framing says that more is to come. Its ``__cause__`` is the error of Twisted, OpenSSL or the agent.

    :ivar url: what was asked for.
    """

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{without_secrets(url)}: {problem}")
        self.url = url


class StreamEnded(SSEError):
    """
    A stream has ended; by its server, unless the client closed it.

    :ivar url: where it was.
    """

    def __init__(self, url: str) -> None:
        super().__init__(f"{without_secrets(url)}: the stream has ended")
        self.url = url


class PeerSilent(SSEError):
    """
    Nothing came from a server for too long.

    :ivar seconds: for how long, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:g} s")
        self.seconds = seconds
