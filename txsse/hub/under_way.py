"""
Admissions that are under way: between the question to the access rule and the open stream.

A rule may have decided before a key was disconnected, and its stream may open afterwards. Strategy: each
admission has a number, and each order is recorded with the number of the next admission. When an admission
ends, the orders for its key that were given meanwhile apply to it. Orders are forgotten when all admissions
that are older have ended.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field

from txsse.topics.topic_set import TopicSet

__all__ = ["Order", "UnderWay"]

# How many orders are recorded. If there are more while one admission takes long, that admission is treated as
# if it had been disconnected.
_MAX_ORDERS = 10_000


@dataclass(frozen=True)
class Order:
    """
    An order to cut streams off.

    :ivar key: whose streams.
    :ivar topics: the topics to take from them; ``None`` to close them.
    """

    # Not in logs: a key may be a session's secret.
    key: Hashable = field(repr=False)
    topics: TopicSet | None


class UnderWay:
    """
    The admissions of a hub that are under way.
    """

    def __init__(self) -> None:
        self._next = 0
        # In ascending order. With a plain dict, each search for the oldest one would pass over all that have
        # ended: after a restart, that took seconds for 100,000 requests.
        self._admissions: OrderedDict[int, None] = OrderedDict()
        # Each with the number of the first admission that began after it.
        self._orders: deque[tuple[int, Order]] = deque()
        # Admissions with lower numbers have missed orders.
        self._complete_from = 0

    def begin(self) -> int:
        """
        Record the beginning of an admission, and return its number.
        """
        number = self._next
        self._next += 1
        self._admissions[number] = None
        return number

    def end(self, number: int) -> None:
        """
        Record the end of an admission.
        """
        self._admissions.pop(number, None)
        oldest = next(iter(self._admissions), self._next)
        while self._orders and self._orders[0][0] <= oldest:
            self._orders.popleft()

    def record(self, order: Order) -> None:
        """
        Record an order for the admissions that are under way.
        """
        if not self._admissions:
            return
        self._orders.append((self._next, order))
        if len(self._orders) > _MAX_ORDERS:
            self._complete_from = self._orders.popleft()[0]

    def miss(self) -> None:
        """
        Record that orders for the admissions that are under way may be unknown.
        """
        self._complete_from = self._next

    def is_disconnected(self, number: int, keys: Collection[Hashable]) -> bool:
        """
        Return whether an admission must not become a stream.

        :param number: the number of the admission.
        :param keys: the keys that its stream could be disconnected by.
        """
        return number < self._complete_from or any(
            order.topics is None for order in self._orders_for(number, keys)
        )

    def revoked(self, number: int, keys: Collection[Hashable]) -> list[TopicSet]:
        """
        Return the topics that have been revoked since an admission began.
        """
        return [order.topics for order in self._orders_for(number, keys) if order.topics is not None]

    def _orders_for(self, number: int, keys: Collection[Hashable]) -> Iterable[Order]:
        return (order for before, order in self._orders if number < before and order.key in keys)
