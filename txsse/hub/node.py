"""
A hub as a node of its cluster: the counts that it shares, and the messages that it receives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from txsse.hub.membership import Membership

__all__ = ["Node"]


class Node:
    """
    The listener of a hub's cluster; see :class:`~txsse.journal.cluster.IClusterListener`.

    :param membership: the hub's subscribers.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

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

    def message_received(self, message: str) -> None:
        """
        Acknowledge a message without acting on it: a node of a newer version may send unknown messages.
        """
