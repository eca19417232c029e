"""
The exceptions of txsse, and the reasons why a channel closes.

Only ``EventTooLarge`` is elsewhere, in :mod:`txsse.protocol.parser`, because it carries events.

All exceptions have one root::

    SSEError
    ├── InvalidField     (also a ValueError)  a value that the wire format cannot represent
    ├── NotOneEvent      (also a ValueError)  a text that is not exactly one event
    ├── EventTooLarge    a stream with an event that exceeds the parser's limit
    ├── ChannelClosed    a frame for a channel that is closed
    ├── UpgradeRefused   a request that got another response than a stream
    ├── UpdateTooLarge   an update that exceeds the hub's limit
    ├── BatchTooLarge    more updates than a journal records in one transaction
    ├── TooManyTopics    a subscription with more topics than the hub's limit
    ├── TooManyChanges   a subscriber that has gained topics too often while it replays
    ├── TooManyRevocations  a token to revoke while the list of revoked tokens is full
    ├── RetainedFull     an update to retain while the journal holds as many as it may
    ├── NotRetained      (also a LookupError)  a retained update to remove, which there is not
    ├── RetainUnsupported  an update to retain, for a journal that retains none
    ├── TooManyPatterns  a subscription whose patterns would exceed the hub's limit for all patterns
    ├── HubStopped       an update or a subscriber for a hub that has stopped
    ├── ListenFailed     an endpoint that a service cannot listen on
    ├── JournalFailed    a journal that cannot be read or written at the moment
    ├── NotAcknowledged  a message to all nodes of a cluster that some have not acknowledged
    ├── StreamRefused    a response to a client that opens no stream
    ├── InvalidResponse  a response that a client cannot parse
    ├── ConnectionFailed a connection that a client cannot make, or has lost
    ├── StreamEnded      the end of a stream, as a client sees it
    └── PeerSilent       a server from which a client has received nothing for too long
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum, auto

from txsse._redact import without_secrets

__all__ = [
    "BatchTooLarge",
    "ChannelClosed",
    "CloseReason",
    "ConnectionFailed",
    "HubStopped",
    "InvalidField",
    "InvalidResponse",
    "JournalFailed",
    "ListenFailed",
    "NotAcknowledged",
    "NotOneEvent",
    "NotRetained",
    "PeerSilent",
    "RetainUnsupported",
    "RetainedFull",
    "SSEError",
    "StreamEnded",
    "StreamRefused",
    "TooManyChanges",
    "TooManyPatterns",
    "TooManyRevocations",
    "TooManyTopics",
    "UpdateTooLarge",
    "UpgradeRefused",
]

_ASCII_NAMES = {"\n": "line feed", "\r": "carriage return", "\0": "null"}


class SSEError(Exception):
    """
    The base class of all exceptions that txsse raises on purpose.
    """


class InvalidField(SSEError, ValueError):
    """
    A field has a value that cannot be sent.

    If it were sent unchanged, it would end its line early, inject another field, or reach the client as
    another value.

    :ivar field: the name of the field: ``data``, ``event``, ``id``, ``retry`` or ``comment``.
    :ivar position: the index of the invalid character in the value; ``None`` if the whole value is invalid.
    :ivar character: the character at that position; ``None`` if the whole value is invalid.
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


class NotOneEvent(SSEError, ValueError):
    """
    A text that :meth:`txsse.ServerSentEvent.parse` was called with is not exactly one event.
    """

    def __init__(self, problem: str) -> None:
        super().__init__(f"the text is not one event: {problem}")


class CloseReason(Enum):
    """
    The reason why a channel closed.
    """

    CLIENT_GONE = auto()
    """The client closed the connection, or the connection was lost."""

    SERVER_CLOSED = auto()
    """``close()`` was called, or the handler returned."""

    HANDLER_FAILED = auto()
    """The handler raised; the log has the traceback."""

    SLOW_READER = auto()
    """More than ``max_buffer`` bytes were buffered for a slow reader whose overflow policy is ``close``."""

    FLUSH_TIMEOUT = auto()
    """``close()`` was called, and the client did not read the buffered rest within ``flush_timeout``."""

    MAX_LIFETIME = auto()
    """The stream reached its ``max_lifetime``."""

    EXPIRED = auto()
    """The client's permission to read the stream has expired, such as its token."""

    DISCONNECTED = auto()
    """The program disconnected the stream's key, or revoked its topics: :meth:`txsse.Hub.disconnect`."""

    DRAINED = auto()
    """The hub shut down, and drained its subscribers."""

    SHUTDOWN = auto()
    """The reactor stopped, or the service."""

    PEER_TIMEOUT = auto()
    """The client acknowledged or read nothing for ``peer_timeout``, and the operating system closed the
    connection."""


class ChannelClosed(SSEError):
    """
    A frame cannot be sent, because the channel is closed or closing.

    :ivar reason: why the channel closed, a :class:`CloseReason`.
    """

    def __init__(self, reason: CloseReason) -> None:
        super().__init__(
            f"the channel is closed ({reason.name}); check is_open first, or wait for when_closed()"
        )
        self.reason = reason


class UpgradeRefused(SSEError):
    """
    A request did not become a stream, and gets an error response instead.

    When the upgrader raises this, it has already sent the response: the caller only returns ``NOT_DONE_YET``
    (or ``None``, in a route of Klein). When the access rule of :meth:`txsse.Hub.resource` or
    :class:`txsse.SSEResource` raises it, the response is sent for it. With the status 204, a browser's
    ``EventSource`` ends permanently.

    :ivar status: the HTTP status of the response; ``None`` if no response could be sent, because the client
        had disconnected or the response had begun before.
    :ivar reason: the reason in one sentence, which is the body of the response.
    :ivar headers: further headers of the response, such as ``WWW-Authenticate``.
    """

    def __init__(self, reason: str, *, status: int | None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status}: {reason}" if status is not None else reason)
        self.status = status
        self.reason = reason
        self.headers = dict(headers or {})


class UpdateTooLarge(SSEError):
    """
    An update is larger than the hub's ``max_update_size``.

    :ivar size: the size of its frame, in bytes.
    :ivar limit: the hub's ``max_update_size``, in bytes.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the update takes {size} bytes; max_update_size is {limit}")
        self.size = size
        self.limit = limit


class BatchTooLarge(SSEError):
    """
    A batch has more updates, or more bytes, than a journal records in one transaction.

    :ivar count: how many updates the batch has.
    :ivar size: the size of their frames, in bytes.
    :ivar max_count: the most updates of a transaction.
    :ivar max_size: the most bytes of a transaction.
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

    :ivar count: how many topics and patterns the subscription names.
    :ivar limit: the hub's ``max_topics``.
    """

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(f"{count} topics in one subscription; {limit} is the limit")
        self.count = count
        self.limit = limit


class TooManyPatterns(SSEError):
    """
    A subscription's patterns would take the hub above its ``max_pattern_weight``.

    :ivar limit: the hub's ``max_pattern_weight``, which bounds all patterns of its subscribers together.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            "the hub has reached its limit of patterns: subscribe to exact topics, or try again later "
            f"(max_pattern_weight is {limit})"
        )
        self.limit = limit


class TooManyChanges(SSEError):
    """
    A subscriber has gained topics too often while it replays.

    :ivar limit: how many such changes it may make before it has caught up.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the subscriber has gained topics {limit} times while it replays; change its topics again when "
            "subscriber.is_replaying is false, or close its channel, so that its client resumes"
        )
        self.limit = limit


class TooManyRevocations(SSEError):
    """
    The list of revoked tokens is full.

    :ivar limit: how many revocations a journal keeps until their tokens have expired.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the list of revoked tokens is full: {limit} have not expired; issue tokens that expire sooner, "
            "or replace the key that signs them"
        )
        self.limit = limit


class RetainedFull(SSEError):
    """
    The journal retains as many updates as it may. None is dropped for a new one.

    Nothing was published. An update of a key that is retained already is accepted, unless it is larger than
    the one before and the updates would have too many bytes.

    :ivar max_count: the maximum number of retained updates.
    :ivar max_bytes: their maximum size, in bytes, approximately.
    """

    def __init__(self, max_count: int, max_bytes: int) -> None:
        super().__init__(
            f"the journal retains at most {max_count} updates with {max_bytes} bytes, and has no room for "
            "this one; unretain some, or raise the journal's max_retained or max_retained_bytes"
        )
        self.max_count = max_count
        self.max_bytes = max_bytes


class NotRetained(SSEError, LookupError):
    """
    No update is retained with a topic and a key, so none can be removed. Nothing was published.

    :ivar topics: the topics.
    :ivar key: the key.
    """

    def __init__(self, topics: Sequence[str], key: str) -> None:
        super().__init__(f"no update with the key {key!r} is retained under {', '.join(topics)}")
        self.topics = tuple(topics)
        self.key = key


class RetainUnsupported(SSEError):
    """
    The hub's journal does not retain updates: it does not provide ``IRetainingJournal``.
    """

    def __init__(self, journal: object) -> None:
        super().__init__(f"{journal!r} does not retain updates; use one that provides IRetainingJournal")


class HubStopped(SSEError):
    """
    The hub has been stopped, and accepts no updates and no subscribers.
    """

    def __init__(self) -> None:
        super().__init__("the hub has been stopped")


class ListenFailed(SSEError):
    """
    A service cannot listen on an endpoint. The message says why, and what to do, in one line.

    :ivar endpoint: the endpoint string, or a name of the endpoint.
    """

    def __init__(self, endpoint: str, problem: str) -> None:
        super().__init__(f"cannot listen on {endpoint!r}: {problem}")
        self.endpoint = endpoint


class JournalFailed(SSEError):
    """
    A journal cannot be read or written.

    If a publication fails with it, the update is not recorded, unless ``uncertain`` is true. In both cases
    the caller may publish the update again, with the same id.

    :ivar journal: the name of the journal.
    :ivar problem: what is wrong, and what to do.
    :ivar uncertain: whether the update may have been recorded nevertheless.
    """

    def __init__(self, journal: str, problem: str, *, uncertain: bool = False) -> None:
        super().__init__(f"{journal}: {problem}")
        self.journal = journal
        self.problem = problem
        self.uncertain = uncertain


class NotAcknowledged(SSEError):
    """
    Some nodes of a cluster failed to execute a message, or did not acknowledge it by the deadline.

    All other nodes have acknowledged it.

    :ivar nodes: the names of the nodes that have not.
    """

    def __init__(self, nodes: Sequence[str]) -> None:
        super().__init__(f"nodes have not acknowledged a message: {', '.join(nodes)}; see their logs")
        self.nodes = list(nodes)


class StreamRefused(SSEError):
    """
    A server answered a client's request with a response that is not a stream.

    :ivar url: the requested URL, after all redirects.
    :ivar status: the status of the response.
    :ivar body: the beginning of its body, at most 4 KiB, decoded by its charset; ``""`` for a compressed
        body. It is untrusted text of the server.
    """

    def __init__(self, problem: str, *, url: str, status: int, body: str = "") -> None:
        super().__init__(f"{without_secrets(url)}: {problem}")
        self.url = url
        self.status = status
        self.body = body


class InvalidResponse(SSEError):
    """
    A server's response is not valid HTTP, or its head is too large.
    """


class ConnectionFailed(SSEError):
    """
    A client cannot connect to a server, or the connection was lost.

    It was lost before the response, or within a stream whose framing says that more data follows. The
    ``__cause__`` is the error of Twisted, OpenSSL or the agent.

    :ivar url: the requested URL.
    """

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{without_secrets(url)}: {problem}")
        self.url = url


class StreamEnded(SSEError):
    """
    A stream has ended. The server ended it, unless the client closed it.

    :ivar url: the URL of the stream.
    """

    def __init__(self, url: str) -> None:
        super().__init__(f"{without_secrets(url)}: the stream has ended")
        self.url = url


class PeerSilent(SSEError):
    """
    A client received nothing from a server for too long.

    :ivar seconds: how long, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"nothing came for {seconds:g} s")
        self.seconds = seconds
