"""
The contract of a cluster: what the nodes that share a journal say to each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, TypeAlias, cast

from twisted.internet.defer import Deferred, TimeoutError, fail, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface, implementer

from txsse._arguments import check_number
from txsse._rate_limited_log import RateLimitedLog
from txsse._reactor import global_reactor
from txsse._typing import AnyReactor
from txsse.errors import JournalFailed, NotAcknowledged
from txsse.protocol.event import check_text

__all__ = [
    "DEFAULT_DEADLINE",
    "MAX_MESSAGE_BYTES",
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

# How long a broadcast waits for acknowledgements, in seconds, unless its caller says otherwise: longer than a
# node of a Redis counts as alive that has been killed.
DEFAULT_DEADLINE = 15.0

# Each node holds a message until its listener is done. Messages say what to do, and are no place for data.
MAX_MESSAGE_BYTES = 65536


class IClusterListener(Protocol):
    """
    What a node contributes to its cluster: its hub.
    """

    def subscriber_counts(self) -> Mapping[str, int]:
        """
        Return how many subscribers each topic has by its name; ``*`` for how many there are in all. It is a
        view of the present counts, and returns 0 for a topic that it does not have.
        """

    def changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts may have changed since the last call; at first, any of them.
        """

    def message_received(self, message: str) -> Deferred[None] | None:
        """
        Do what a message asks for. It is acknowledged when this returns, or when its Deferred fires. If this
        raises, or the Deferred fails, the sender is notified that this node failed.
        """


class ICluster(Interface):
    """
    The nodes that share a journal: how many subscribers each has, their metadata, and messages to them all.

    A node is alive from :meth:`start` to :meth:`stop`, and as long as its heartbeat reaches the others. All
    methods are called in the reactor's thread.
    """

    def start(listener: IClusterListener) -> Deferred[None]:  # noqa: N805
        """
        Join. The hub does so after it has started its journal.
        """

    def count_subscribers(topic: str) -> Deferred[int]:  # noqa: N805
        """
        Return how many subscribers a topic has by its name at the *other* nodes, as of their last
        heartbeats; ``*`` for how many there are in all. It fails with :exc:`~txsse.errors.JournalFailed` if
        they cannot be reached.
        """

    def put_metadata(name: str, text: str | None) -> None:  # noqa: N805
        """
        Show the other nodes a text, until this node ends; ``None`` deletes it. A node that receives an
        update which was appended after this call finds the text as this call has left it. Two nodes may have
        texts of the same name.

        :raises ValueError: for an empty text; so is :exc:`~txsse.InvalidField` for lone surrogates.
        """

    def metadata(name: str) -> Deferred[list[str]]:  # noqa: N805
        """
        Return the texts of the *other* nodes, in no order: those of a name, and those whose names begin with
        it and a slash. It fails with :exc:`~txsse.errors.JournalFailed` if they cannot be reached.
        """

    def broadcast(message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[None]:  # noqa: N805
        """
        Send a message to all nodes that are alive, this one included. Each receives it exactly once, by
        ``IClusterListener.message_received``. The term is that of distributed systems: a message to all
        members of a group.

        A node that joins later does not receive it; nor does one that could not be reached for so long that
        it did not count as alive.

        :param message: a text of at most ``MAX_MESSAGE_BYTES``.
        :param deadline: how long to wait, in seconds.
        :returns: a Deferred that fires when all nodes that are alive have acknowledged the message. A node
            that ends meanwhile is not waited for. It fails with :exc:`~txsse.errors.NotAcknowledged`, which
            names the nodes that failed, or did not acknowledge by the deadline; and with
            :exc:`~txsse.errors.JournalFailed` if the server is lost, after which nodes may have received the
            message.
        :raises ValueError: for a message that is too long, and a deadline that is not positive.
        """

    def stop() -> Deferred[None]:
        """
        Leave: the other nodes do not count this one any more. It never fails, and may be called twice.
        """


class Cluster(Protocol):
    """
    The methods of :class:`ICluster`, for type checkers that do not know zope.interface.
    """

    def start(self, listener: IClusterListener, /) -> Deferred[None]: ...

    def count_subscribers(self, topic: str, /) -> Deferred[int]: ...

    def put_metadata(self, name: str, text: str | None, /) -> None: ...

    def metadata(self, name: str, /) -> Deferred[list[str]]: ...

    def broadcast(self, message: str, /, *, deadline: float = ...) -> Deferred[None]: ...

    def stop(self) -> Deferred[None]: ...


# To type checkers that do not know zope.interface; see :mod:`txsse._typing`.
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


async def deliver(listener: IClusterListener, message: str) -> None:
    """
    Have a listener receive a message, and wait until it is done.
    """
    done = listener.message_received(message)
    if done is not None:
        await done


@implementer(ICluster)
class NoCluster:
    """
    The cluster of a hub that shares its journal with no other: one node.

    :param reactor: the reactor, for deadlines; ``None`` for the global one.
    """

    def __init__(self, *, reactor: AnyReactor | None = None) -> None:
        self._reactor = cast("IReactorTime | None", reactor)
        self._listener: IClusterListener | None = None
        self._failures = RateLimitedLog(_log)

    def start(self, listener: IClusterListener) -> Deferred[None]:
        """
        Join.
        """
        self._listener = listener
        return succeed(None)

    def count_subscribers(self, topic: str) -> Deferred[int]:
        """
        Return 0: there are no other nodes.
        """
        return succeed(0)

    def put_metadata(self, name: str, text: str | None) -> None:
        """
        Check the arguments: there are no other nodes.
        """
        check_metadata(name, text)

    def metadata(self, name: str) -> Deferred[list[str]]:
        """
        Return no texts: there are no other nodes.
        """
        return succeed([])

    def broadcast(self, message: str, *, deadline: float = DEFAULT_DEADLINE) -> Deferred[None]:
        """
        Have the listener receive a message.
        """
        check_broadcast(message, deadline)
        if self._listener is None:
            return fail(JournalFailed("the cluster", "not started"))
        done = Deferred.fromCoroutine(deliver(self._listener, message))
        done.addTimeout(deadline, self._reactor or global_reactor())
        return done.addErrback(self._has_failed)

    def stop(self) -> Deferred[None]:
        """
        Leave.
        """
        self._listener = None
        return succeed(None)

    def _has_failed(self, failure: Failure) -> Failure:
        if not failure.check(TimeoutError):
            self._failures.failure("a message of the cluster failed", failure)
        return Failure(NotAcknowledged(["this node"]))
