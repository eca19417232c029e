"""
The interface of a cluster, and its null implementation for a single node.

The nodes that share a journal exchange subscriber counts, node metadata and messages by it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, TypeAlias, cast

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface, implementer

from txsse._arguments import check_number
from txsse._rate_limited_log import RateLimitedLog
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed, NotAcknowledged
from txsse.journal.registry import AnyRegistry, LocalRegistry
from txsse.protocol.event import check_text

__all__ = [
    "DEFAULT_DEADLINE",
    "MAX_MESSAGE_BYTES",
    "MAX_REPLY_BYTES",
    "AnyCluster",
    "Cluster",
    "ICluster",
    "IClusterListener",
    "NoCluster",
    "check_broadcast",
    "check_metadata",
    "deliver",
]

_log = Logger()

# How long a broadcast waits for acknowledgements by default, in seconds: longer than a killed node of a Redis
# cluster still counts as alive.
DEFAULT_DEADLINE = 15.0

# Each node holds a message in memory until its listener has handled it. Messages are commands, not data.
MAX_MESSAGE_BYTES = 65536

# The sender holds the replies of all nodes in memory.
MAX_REPLY_BYTES = 1024


class IClusterListener(Protocol):
    """
    The hub of a node, as its cluster uses it.
    """

    def subscriber_counts(self) -> Mapping[str, int]:
        """
        Return the number of subscribers of each topic, by its name; under ``*``, the number of all.

        The mapping is a live view of the counts, and returns 0 for an unknown topic.
        """

    def changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts may have changed since the last call. The first call may return any.
        """

    def message_received(self, message: str) -> Deferred[str | None] | str | None:
        """
        Handle a message.

        The message is acknowledged when this returns, or when the returned Deferred fires. If this raises an
        exception, or the Deferred fails, the sender is notified that this node failed.

        :returns: a reply for the sender, of at most ``MAX_REPLY_BYTES`` bytes; ``None`` for none.
        """

    def messages_missed(self) -> None:
        """
        Handle that messages may have been sent which this node did not receive.

        It was out of reach for so long that it no longer counted as alive.
        """


class ICluster(Interface):
    """
    The nodes that share a journal: their subscriber counts, their metadata, and messages to all of them.

    A node is alive from :meth:`start` to :meth:`stop`, while its heartbeats reach the other nodes. All
    methods are called in the reactor's thread.
    """

    registry: AnyRegistry = Attribute(
        """
        The names that nodes hold, an :class:`~txsse.journal.registry.IRegistry`. A cluster may be without
        this attribute: presence and demand are then those of each node alone.
        """
    )

    def start(listener: IClusterListener) -> Deferred[None]:  # noqa: N805
        """
        Join the cluster. The hub does so after it has started its journal.
        """

    def count_subscribers(topic: str) -> Deferred[int]:  # noqa: N805
        """
        Return the number of subscribers of a topic at the *other* nodes, as of their last heartbeats.

        :param topic: the name of the topic; ``*`` for the number of all subscribers.
        :returns: a Deferred. It fails with :exc:`~txsse.errors.JournalFailed` if the nodes cannot be reached.
        """

    def put_metadata(name: str, text: str | None) -> None:  # noqa: N805
        """
        Show the other nodes a text until this node stops; ``None`` deletes the text.

        A node that receives an update which was appended after this call finds the text as this call has
        left it. Two nodes may have texts with the same name.

        :raises ValueError: if the text is empty; :exc:`~txsse.InvalidField`, a subclass, for lone surrogates.
        """

    def metadata(name: str) -> Deferred[list[str]]:  # noqa: N805
        """
        Return the texts of the *other* nodes with this name, or with a name that begins with it and a slash.

        :returns: a Deferred that fires with the texts, in no particular order. It fails with
            :exc:`~txsse.errors.JournalFailed` if the nodes cannot be reached.
        """

    def broadcast(message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[list[str]]:  # noqa: N805
        """
        Send a message to all nodes that are alive, including this one.

        Each node receives it exactly once, by ``IClusterListener.message_received``. A node that joins later
        does not receive it; nor does a node that was unreachable for so long that it no longer counted as
        alive: its listener is notified when it returns, by ``messages_missed``. (The term is that of
        distributed systems: a message to all members of a group.)

        :param message: a text of at most ``MAX_MESSAGE_BYTES`` bytes.
        :param deadline: how long to wait for acknowledgements, in seconds.
        :returns: a Deferred that fires when all nodes that are alive have acknowledged the message, with the
            replies of their listeners in no particular order. It does not wait for a node that stops
            meanwhile. It fails with :exc:`~txsse.errors.NotAcknowledged`,
            which names the nodes that failed or did not acknowledge by the deadline; and with
            :exc:`~txsse.errors.JournalFailed` if the connection to the server is lost, after which nodes may
            have received the message.
        :raises ValueError: if the message is too long, or the deadline is not positive.
        """

    def stop() -> Deferred[None]:
        """
        Leave the cluster: the other nodes no longer count this node. It never fails, and may be called twice.
        """


class Cluster(Protocol):
    """
    The methods of :class:`ICluster`, for type checkers that do not support zope.interface.
    """

    def start(self, listener: IClusterListener, /) -> Deferred[None]: ...  # noqa: D102

    def count_subscribers(self, topic: str, /) -> Deferred[int]: ...  # noqa: D102

    def put_metadata(self, name: str, text: str | None, /) -> None: ...  # noqa: D102

    def metadata(self, name: str, /) -> Deferred[list[str]]: ...  # noqa: D102

    def broadcast(self, message: str, /, *, deadline: float = ...) -> Deferred[list[str]]: ...  # noqa: D102

    def stop(self) -> Deferred[None]: ...  # noqa: D102


# For type checkers that do not support zope.interface; see :mod:`txsse._typing`.
AnyCluster: TypeAlias = ICluster | Cluster


def check_metadata(name: str, text: str | None) -> None:
    """
    Check the arguments of :meth:`ICluster.put_metadata`.
    """
    check_text("name", name)
    if text is not None and not check_text("text", text):
        raise ValueError("the text must not be empty; None deletes it")


def check_broadcast(message: str, deadline: float) -> None:
    """
    Check the arguments of :meth:`ICluster.broadcast`.
    """
    if len(check_text("message", message).encode()) > MAX_MESSAGE_BYTES:
        raise ValueError(f"the message has more than {MAX_MESSAGE_BYTES} bytes")
    check_number("deadline", deadline, "a number of seconds")
    if not deadline > 0:
        raise ValueError(f"deadline must be a positive number of seconds, not {deadline!r}")


async def deliver(listener: IClusterListener, message: str) -> str | None:
    """
    Pass a message to a listener, and wait until the listener has handled it.

    :returns: its reply; ``None`` for none.
    :raises ValueError: for a reply that is too long.
    """
    reply = listener.message_received(message)
    if isinstance(reply, Deferred):
        reply = await reply
    if reply is not None and len(check_text("reply", reply).encode()) > MAX_REPLY_BYTES:
        raise ValueError(f"the reply has more than {MAX_REPLY_BYTES} bytes")
    return reply


@implementer(ICluster)
class NoCluster:
    """
    The cluster of a hub that does not share its journal: a single node.

    :param reactor: the reactor, for deadlines; ``None`` for the global one.
    :ivar registry: the names that this node holds.
    """

    def __init__(self, *, reactor: AnyReactor | None = None) -> None:
        self.registry = LocalRegistry()
        self._reactor = cast("IReactorTime | None", reactor)
        self._listener: IClusterListener | None = None
        self._failures = RateLimitedLog(_log)

    def start(self, listener: IClusterListener) -> Deferred[None]:
        """
        Join the cluster, which then delivers messages to this listener.
        """
        self._listener = listener
        return succeed(None)

    def count_subscribers(self, topic: str) -> Deferred[int]:
        """
        Return 0, as no other node exists.
        """
        return succeed(0)

    def put_metadata(self, name: str, text: str | None) -> None:
        """
        Check the arguments, and store nothing, as no other node exists.
        """
        check_metadata(name, text)

    def metadata(self, name: str) -> Deferred[list[str]]:
        """
        Return no texts, as no other node exists.
        """
        return succeed([])

    def broadcast(self, message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[list[str]]:
        """
        Pass a message to this node's listener.
        """
        check_broadcast(message, deadline)
        if self._listener is None:
            return fail(JournalFailed("the cluster", "not started"))
        done = Deferred.fromCoroutine(deliver(self._listener, message))
        done.addTimeout(deadline, self._reactor or global_reactor())
        return done.addCallbacks(_to_replies, self._has_failed)

    def stop(self) -> Deferred[None]:
        """
        Leave the cluster: messages fail from now on.
        """
        self._listener = None
        return succeed(None)

    def _has_failed(self, failure: Failure) -> Failure:
        if not failure.check(TimeoutError):
            self._failures.failure("this node failed to handle a cluster message", failure)
        return Failure(NotAcknowledged(["this node"]))


def _to_replies(reply: str | None) -> list[str]:
    return [] if reply is None else [reply]
