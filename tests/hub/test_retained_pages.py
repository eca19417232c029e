"""
Pages of retained updates, which clients that connect at the same time share.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.fakes import FakeReactor
from tests.hub.fakes import result_of
from txsse import Retention, ServerSentEvent, Update
from txsse._timeslice import TimeSlices
from txsse.hub.retained_pages import RetainedPages, SharedState
from txsse.journal.retained_updates import RetainedUpdates
from txsse.topics.topic_set import TopicSet


class Reading:
    """
    Retained updates and their pages.
    """

    def __init__(self) -> None:
        self.reactor = FakeReactor()
        self.kept = RetainedUpdates(self.reactor.seconds)
        self.pages = RetainedPages(self.kept, self.reactor)
        self.head = 0

    def retain(self, *keys: str, topics: str = "news", seconds: float | None = None) -> None:
        for key in keys:
            self.head += 1
            event = ServerSentEvent(key, id=str(self.head))
            self.kept.apply(self.head, Update(topics, event, retention=Retention(key, seconds)))

    def read(self, topics: Any = "news", *, after: int = 0, up_to: int | None = None) -> SharedState:
        up_to = self.head if up_to is None else up_to
        reading = Deferred.fromCoroutine(self.pages.read(TopicSet(topics), after, up_to))
        return result_of(reading)

    def positions(self, *arguments: Any, **options: Any) -> list[int]:
        return [position for position, _ in self.read(*arguments, **options).entries]


@pytest.fixture
def reading() -> Reading:
    """
    Return three retained updates.
    """
    reading = Reading()
    reading.retain("a", "b", "c")
    return reading


class ReadTests:
    def test_shared(self, reading: Reading) -> None:
        """
        Subscribers of the same topics share a page for a second, wherever they are after the change.
        """
        page = reading.read()
        assert reading.read() is page
        assert reading.read(up_to=100) is page
        assert reading.read("other") is not page
        reading.reactor.advance(1)
        assert reading.read() is not page

    def test_changed(self, reading: Reading) -> None:
        """
        A page is not shared after a change.
        """
        assert reading.positions() == [1, 2, 3]
        reading.retain("a")
        assert reading.positions() == [2, 3, 4]

    def test_position_before_the_change(self, reading: Reading) -> None:
        """
        A subscriber at a position before the newest change neither shares its page nor gets that of others.
        """
        assert reading.positions(up_to=2) == [1, 2]
        assert reading.positions() == [1, 2, 3]
        assert reading.positions(up_to=2) == [1, 2]

    def test_expiring(self, reading: Reading) -> None:
        """
        A page with an update that expires is not shared.
        """
        reading.retain("d", seconds=0.5)
        assert reading.positions() == [1, 2, 3, 4]
        reading.reactor.advance(0.5)
        assert reading.positions() == [1, 2, 3]

    def test_selectors(self, reading: Reading) -> None:
        """
        For all topics, pages have all retained updates; for exact topics, theirs alone.
        """
        reading.retain("a", topics="sport")
        assert reading.positions("*") == [1, 2, 3, 4]
        assert reading.positions(["sport", "none"]) == [4]

    def test_forget(self, reading: Reading) -> None:
        """
        The cache can be dropped.
        """
        page = reading.read()
        reading.pages.forget()
        assert reading.read() is not page

    def test_nothing(self) -> None:
        """
        A journal that retains no updates has none, and no change.
        """
        pages = RetainedPages(None, FakeReactor())
        assert pages.is_empty and pages.changed_at == 0


class ExceedsTests:
    def exceeds(self, reading: Reading, limit: int, topics: Any, private: Any = ()) -> bool:
        turns = TimeSlices(reading.reactor)
        return result_of(
            Deferred.fromCoroutine(reading.pages.exceeds(limit, TopicSet(topics), TopicSet(private), turns))
        )

    def test_bytes(self, reading: Reading) -> None:
        """
        The bytes of the frames that a subscriber would be sent count.
        """
        for number in range(600):
            reading.retain(f"{number} " + "x" * 1000, topics="large")
        size = sum(len(each.frame) for _, each in reading.read("large", up_to=10**6).entries)
        assert size > 60_000
        assert not self.exceeds(reading, 10**6, "large")
        assert self.exceeds(reading, 1000, "large")
        assert self.exceeds(reading, 500_000, "large")
        assert self.exceeds(reading, 500_000, "*")
        assert not self.exceeds(reading, 1000, "news")

    def test_nothing(self) -> None:
        """
        No retained update exceeds no limit.
        """
        assert not self.exceeds(Reading(), 0, "*")
