"""
Admissions that are under way, and the orders that apply to them.
"""

from __future__ import annotations

import pytest

from txsse.hub import under_way as under_way_module
from txsse.hub.under_way import Order, UnderWay
from txsse.topics.topic_set import TopicSet


class UnderWayTests:
    def test_disconnected_meanwhile(self) -> None:
        """
        An admission must not become a stream if its key was disconnected after it began, and only then.
        """
        under_way = UnderWay()
        early = under_way.begin()
        under_way.record(Order("ann", None))
        late = under_way.begin()
        assert under_way.is_disconnected(early, ["ann"])
        assert not under_way.is_disconnected(early, ["bob"])
        assert not under_way.is_disconnected(late, ["ann"])

    def test_revoked_meanwhile(self) -> None:
        """
        The topics that were revoked after an admission began apply to it, in their order.
        """
        under_way = UnderWay()
        number = under_way.begin()
        news, sport = TopicSet("news"), TopicSet("sport")
        under_way.record(Order("ann", news))
        under_way.record(Order("bob", sport))
        under_way.record(Order("ann", sport))
        assert under_way.revoked(number, ["ann"]) == [news, sport]
        assert not under_way.is_disconnected(number, ["ann"])
        assert under_way.revoked(under_way.begin(), ["ann"]) == []

    def test_orders_are_forgotten(self) -> None:
        """
        Orders are kept only as long as an admission that is older is under way.
        """
        under_way = UnderWay()
        under_way.record(Order("ann", None))
        assert not under_way._orders
        first, second = under_way.begin(), under_way.begin()
        under_way.record(Order("ann", None))
        under_way.end(first)
        assert under_way.is_disconnected(second, ["ann"])
        under_way.end(second)
        under_way.end(second)
        assert not under_way._orders
        assert not under_way._admissions

    def test_newer_admissions_do_not_keep_orders(self) -> None:
        """
        Admissions that began after an order do not keep it.
        """
        under_way = UnderWay()
        first = under_way.begin()
        under_way.record(Order("ann", None))
        under_way.begin()
        under_way.end(first)
        assert not under_way._orders

    def test_too_many_orders(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The number of orders that are kept is limited. An admission that has missed one counts as
        disconnected, whatever its key is; later ones do not.
        """
        monkeypatch.setattr(under_way_module, "_MAX_ORDERS", 3)
        under_way = UnderWay()
        slow = under_way.begin()
        for _ in range(3):
            under_way.record(Order("ann", None))
        assert not under_way.is_disconnected(slow, ["bob"])
        later = under_way.begin()
        under_way.record(Order("ann", None))
        assert len(under_way._orders) == 3
        assert under_way.is_disconnected(slow, ["bob"])
        assert not under_way.is_disconnected(later, ["bob"])
        assert under_way.is_disconnected(later, ["ann"])

    def test_order_in_a_log(self) -> None:
        """
        The repr of an order does not disclose the key.
        """
        assert "s3cret" not in repr(Order("s3cret", TopicSet("news")))
