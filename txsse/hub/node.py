"""
A hub as a node of its cluster: the counts that it shares, and the messages that it receives.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from twisted.internet.defer import Deferred

from txsse.hub.cut_off import CutOff
from txsse.hub.membership import Membership

__all__ = ["Node"]


class Node:
    """
    The listener of a hub's cluster; see :class:`~txsse.journal.cluster.IClusterListener`.

    :param membership: the hub's subscribers.
    :param cut_off: carries out the orders of other nodes.
    """

    def __init__(self, membership: Membership, cut_off: CutOff) -> None:
        self._membership = membership
        self._cut_off = cut_off

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
        Carry out an order to cut streams off; any other message is acknowledged without acting on it.
        """
        return self._cut_off.message_received(message)

    def messages_missed(self) -> None:
        """
        Close the streams that an order may have been meant for, since this node missed some.
        """
        self._cut_off.orders_missed()
