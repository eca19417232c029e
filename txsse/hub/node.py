"""
A hub as a node of its cluster: the counts that it shares, and the messages that it receives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, TypeVar

from twisted.internet.defer import Deferred

from txsse.hub.membership import Membership

__all__ = ["MessageHandler", "Node"]

_Handler = TypeVar("_Handler")


class MessageHandler(Protocol):
    """
    A part of a hub, or a face above it, that acts on one kind of cluster messages.
    """

    def message_received(self, message: str) -> Deferred[str | None] | None:
        """
        Handle a message.

        :returns: a Deferred that fires with a reply, or with ``None`` for none; ``None`` for a message of
            another kind.
        """

    def messages_missed(self) -> None:
        """
        Handle that this node was out of reach, and may not have received some messages.
        """


class Node:
    """
    The listener of a hub's cluster; see :class:`~txsse.journal.cluster.IClusterListener`.

    :param membership: the hub's subscribers.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._handlers: list[MessageHandler] = []

    def add(self, handler: MessageHandler) -> None:
        """
        Pass messages to a handler, unless one that was added before acts on them.
        """
        self._handlers.append(handler)

    def find(self, kind: type[_Handler]) -> _Handler | None:
        """
        Return the handler of a class that was added first; ``None`` if none was added.
        """
        return next((each for each in self._handlers if isinstance(each, kind)), None)

    def subscriber_counts(self) -> Mapping[str, int]:
        """
        Return how many subscribers each topic has.
        """
        return self._membership.counts()

    def changed_topics(self) -> Collection[str]:
        """
        Return the topics whose counts have changed.
        """
        return self._membership.take_changed_topics()

    def message_received(self, message: str) -> Deferred[str | None] | None:
        """
        Pass a message to the handler that acts on it.

        A message that none acts on is acknowledged: a node of a newer version may send unknown ones.
        """
        for handler in self._handlers:
            handled = handler.message_received(message)
            if handled is not None:
                return handled
        return None

    def messages_missed(self) -> None:
        """
        Report to all handlers that this node may have missed messages.
        """
        for handler in self._handlers:
            handler.messages_missed()
