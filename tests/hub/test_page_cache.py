"""
Pages of the journal that several replaying subscribers share.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import pytest

import txsse.journal.window
from tests.hub.fakes import Heavy, Member, Prefix, ScriptedJournal, World, turn
from txsse import Access, ServerSentEvent, Update
from txsse.hub import page_cache as page_cache_module
from txsse.hub.page_cache import SharedFrames, SharedPage, SharedPages
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.journal.page import Entry, Page
from txsse.server.sinks.base import Framed
from txsse.topics.topic_set import ISelector, TopicSet


def entries(*kinds: tuple[str, bool]) -> list[Entry]:
    return [
        (number, Update(topic, ServerSentEvent(f"{topic}-{number}", id=str(number)), private=private))
        for number, (topic, private) in enumerate(kinds, 1)
    ]


class Reader:
    """
    A stand-in for a subscriber.
    """

    def __init__(self, *topics: str | ISelector, private: bool = False) -> None:
        self.topics = TopicSet(topics)
        self.private = TopicSet(topics if private else ())
        self.asked = 0

    def may_have(self, update: Update) -> bool:
        self.asked += 1
        return self.topics.has(update.topics) and (not update.private or self.private.has(update.topics))

    def seek(self, update: Update) -> Generator[None, None, bool]:
        yield
        return self.may_have(update)


def framed(page: SharedFrames, reader: Any) -> tuple[Framed, int]:
    asking = page.allowed_for(reader)
    try:
        while True:
            next(asking)
    except StopIteration as end:
        return page.frames_of(end.value)


def frames(page: SharedFrames, reader: Any) -> tuple[bytes, int]:
    found, count = framed(page, reader)
    return found.data, count


class SharedPageTests:
    def test_without_ids(self) -> None:
        """
        The updates of a page up to a position can be framed without their IDs, for the same subscribers.
        """
        page = SharedPage(
            Page(entries(("news", False), ("sport", False), ("news", True), ("news", False)), 4, False)
        )
        shortened = page.without_ids(3)
        assert [position for position, _ in shortened.entries] == [1, 2, 3]
        (_, first), *_ = page.page.entries
        assert frames(shortened, Reader("news")) == (first.frame_without_id, 1)

    def test_access_differs(self) -> None:
        """
        Subscribers that share a page get only the updates that each of them has access to.
        """
        found = entries(("news", False), ("news", True), ("sport", False), ("news", False))
        page = SharedPage(Page(found, 4, False))
        public = b"".join(found[number][1].frame for number in (0, 3))
        everything = b"".join(update.frame for _, update in found)
        for _ in range(2):
            assert frames(page, Reader("news")) == (public, 2)
            assert frames(page, Reader("news", "sport", private=True)) == (everything, 4)
            assert frames(page, Reader("sport")) == (found[2][1].frame, 1)
            assert frames(page, Reader("weather")) == (b"", 0)

    def test_similar_topic_names(self) -> None:
        """
        A page distinguishes an update of two topics from an update of one topic whose name looks like both.
        """
        several = Update(["a", "b"], ServerSentEvent("1", id="1"))
        one = Update("a', 'b", ServerSentEvent("2", id="2"))
        page = SharedPage(Page([(1, several), (2, one)], 2, False))
        assert frames(page, Reader("a")) == (several.frame, 1)
        assert frames(page, Reader("a', 'b")) == (one.frame, 1)

    def test_framed_once(self) -> None:
        """
        Subscribers that get the same updates share one framed page, and each kind of update is checked once.
        """
        page = SharedPage(Page(entries(*[("news", False)] * 200), 200, False))
        one, other = Reader("news"), Reader("news", "sport")
        assert framed(page, one) is framed(page, other)
        assert one.asked == other.asked == 1

    def test_patterns(self) -> None:
        """
        A page remembers the matches of up to 64 sets of patterns, and never uses them for other patterns or
        grants.
        """
        found = entries(("news", False), ("news", True), ("sport", False))
        page = SharedPage(Page(found, 3, False))
        pattern = Prefix("n")
        public, private = found[0][1].frame, found[1][1].frame
        for _ in range(2):
            assert frames(page, Reader(pattern)) == (public, 1)
            assert frames(page, Reader(pattern, private=True)) == (public + private, 2)
            assert frames(page, Reader(pattern, "sport")) == (public + found[2][1].frame, 2)
            asked, pattern.asked = pattern.asked, []
        assert asked == []
        for number in range(200):
            frames(page, Reader(Prefix(str(number))))
        assert len(page._known) == 64

    def test_heavy_patterns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A page remembers the matches of patterns up to a total weight, because that keeps the patterns in
        memory.
        """
        monkeypatch.setattr(page_cache_module, "_PATTERNS_WEIGHT", 1000)
        page = SharedPage(Page(entries(("news", False)), 1, False))
        kept = 0
        for number, (weight, fits) in enumerate(
            [(600, True), (401, False), (400, True), (1, False), (0, True)]
        ):
            reader = Reader(Heavy(f"n{'e' * number}", weight))
            for _ in range(2):
                frames(page, reader)
            kept += fits
            assert len(page._known) == kept
            assert reader.asked == (1 if fits else 2)

    def test_many_audiences(self) -> None:
        """
        A page keeps the frames of a limited number of audiences; others are made again.
        """
        names = [f"topic-{number}" for number in range(20)]
        found = entries(*[(name, False) for name in names])
        page = SharedPage(Page(found, 20, False))
        for name, (_, update) in zip(names, found, strict=True):
            assert frames(page, Reader(name)) == (update.frame, 1)
        assert len(page._made) == page_cache_module._AUDIENCES


class SharedPagesTests:
    def test_expiry(self, world: World) -> None:
        """
        A cached page expires after one second.
        """
        pages: SharedPages[Any, Any] = SharedPages(world.reactor)
        page = SharedPage(Page(entries(("news", False)), 1, False))
        pages.add((0, None), page)
        world.reactor.advance(0.99)
        assert pages.find((0, None)) is page
        assert pages.find((1, None)) is None
        world.reactor.advance(0.02)
        assert pages.find((0, None)) is None

    def test_bounds(self, world: World) -> None:
        """
        The page cache drops its oldest page at 16, and does not keep large pages.
        """
        pages: SharedPages[Any, Any] = SharedPages(world.reactor)
        page = SharedPage(Page(entries(("news", False)), 1, False))
        for position in range(20):
            pages.add((position, None), page)
        assert [position for position in range(20) if pages.find((position, None))] == list(range(4, 20))
        large = Update("news", ServerSentEvent("x" * 200_000, id="1"))
        pages.add((99, None), SharedPage(Page([(1, large)], 1, False)))
        assert pages.find((99, None)) is None


class StormTests:
    @pytest.fixture
    def journal(self, world: World) -> ScriptedJournal:
        return ScriptedJournal(reactor=world.reactor)

    @pytest.fixture
    def storm(self, world: World, journal: ScriptedJournal) -> World:
        return World(world.wire, journal=journal)

    @pytest.mark.slow
    def test_pages_are_read_once(self, storm: World, journal: ScriptedJournal) -> None:
        """
        A hundred clients that resume together read each full page once; the last page, which may still grow,
        is read for each.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        members = all_join(storm, journal, first)
        texts = [str(number) for number in range(1, 1001)]
        assert all(member.texts == texts for member in members)
        assert journal.calls.count("read") == 3 + len(members)
        storm.end()

    @pytest.mark.slow
    def test_published_during_replay(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Updates that are published while a hundred clients replay follow the replay, once.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        members = all_join(storm, journal, first, between=lambda: storm.publish("live"))
        texts = [*map(str, range(1, 1001)), *["live"] * len(members)]
        assert all(member.texts == texts for member in members)
        storm.end()

    def test_emptied_when_all_are_live(self, storm: World, journal: ScriptedJournal) -> None:
        """
        The page cache is empty when no subscriber is replaying.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        all_join(storm, journal, first)
        assert storm.hub.metrics().replaying == 0
        assert storm.hub._distribution is not None
        assert storm.hub._distribution.replay._shared._pages == {}
        storm.end()

    def test_yields_to_the_reactor(self, storm: World, journal: ScriptedJournal) -> None:
        """
        A hundred clients that resume together keep the reactor no longer than 20 ms in a turn.
        """
        first, *_ = storm.publish("a", "b")
        journal.held.add("read")
        members = [storm.join(last_event_id=first) for _ in range(100)]
        for member in members:
            member.client.pump()
            member.socket.cost = 0.001
        began = storm.reactor.seconds()
        journal.release("read")
        spent = [storm.reactor.seconds() - began]
        while sum(spent) < 0.1:
            began = storm.reactor.seconds()
            turn(storm.reactor)
            spent.append(storm.reactor.seconds() - began)
            assert len(spent) < 100
        assert max(spent) < 0.02
        assert all(member.texts == ["b"] for member in members)
        storm.end()

    def test_unsubscribed_before_its_slice(self, storm: World, journal: ScriptedJournal) -> None:
        """
        A replaying subscriber that unsubscribes before its slice is sent nothing, although its channel is
        open.
        """
        first, *_ = storm.publish("a", "b")
        journal.held.add("read")
        members = [storm.join(last_event_id=first) for _ in range(30)]
        for member in members:
            member.client.pump()
            member.socket.cost = 0.001
        journal.release("read")
        last = members[-1]
        subscriber = last.channel.watcher
        assert isinstance(subscriber, Subscriber) and last.socket.sends[1:] == []
        subscriber.unsubscribe()
        settle(storm)
        assert last.texts == []
        assert subscriber.since == REPLAYING
        assert members[-2].texts == ["b"]
        assert storm.hub.metrics().replaying == 0
        storm.end()

    def test_all_move_to_replay(
        self, storm: World, journal: ScriptedJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        When the journal misses updates, the hub moves all subscribers to replay in slices, and sends them no
        live update before.
        """
        storm.publish("a")
        storm.reactor.run_soon()
        members = [storm.join() for _ in range(30)]
        assert storm.hub._distribution is not None
        replay = storm.hub._distribution.replay
        move, moved = replay.move_to_replay, []

        def slow(subscriber: Subscriber, position: int) -> None:
            storm.reactor.rightNow += 0.001
            moved.append(subscriber)
            move(subscriber, position)

        monkeypatch.setattr(replay, "move_to_replay", slow)
        storm.hub._distribution.updates_missed(journal.head)
        assert 5 < len(moved) < 15
        last = members[-1].channel.watcher
        assert isinstance(last, Subscriber)
        last.unsubscribe()
        storm.publish("b")
        settle(storm)
        assert len(moved) == 29
        assert [member.texts for member in members] == [["b"]] * 29 + [[]]
        storm.end()

    def test_record_is_replaced(self, storm: World, journal: ScriptedJournal) -> None:
        """
        When the journal reports missed updates, for instance a replaced record, the page cache is emptied.
        """
        storm.publish("a")
        assert storm.hub._distribution is not None
        replay = storm.hub._distribution.replay
        replay._shared.add((0, None), SharedPage(Page(entries(("news", False)), 1, False)))
        storm.hub._distribution.updates_missed(journal.head)
        assert replay._shared._pages == {}
        storm.end()

    @pytest.mark.slow
    def test_oldest_page_is_outdated(
        self, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        A client that missed updates is not sent a page that was read before the last publication: it may
        have received updates of that page.
        """
        monkeypatch.setattr(txsse.journal.window, "PAGE_COUNT", 2)
        world = new_world(bounds={"max_count": 3})
        large = "x" * 70_000
        world.publish(f"1{large}", f"2{large}", "3")
        slow = world.open(headers={"Last-Event-ID": "dropped"})
        slow.stop_reading()
        # It replays until its client has read the first page.
        assert world.hub.subscribe(slow.channel, "news").is_replaying
        world.reactor.run_soon()
        world.publish("4", "5")
        member = world.join(last_event_id="dropped")
        assert member.texts == ["stream-reset", "3", "4", "5"]
        assert world.hub.metrics().replaying == 1

    def test_private(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Clients that resume together, some with grants, get only the private updates that each of them has a
        grant for.
        """
        (first,) = storm.publish("first")
        for number in range(600):
            storm.publish(str(number), private=bool(number % 2))
        journal.held.add("read")
        granted = storm.join(Access("news", private="news"), last_event_id=first)
        public = storm.join(last_event_id=first)
        other = storm.join(Access("news", private="sport"), last_event_id=first)
        journal.release("read")
        settle(storm)
        assert granted.texts == [str(number) for number in range(600)]
        assert public.texts == other.texts == [str(number) for number in range(0, 600, 2)]
        storm.end()


def all_join(storm: World, journal: ScriptedJournal, first: str, between: Any = bool) -> list[Member]:
    """
    Resume a hundred clients in the same moment.
    """
    journal.held.add("read")
    members = []
    for _ in range(100):
        members.append(storm.join(last_event_id=first))
        between()
    journal.release("read")
    settle(storm)
    return members


def settle(world: World) -> None:
    for _ in range(50):
        turn(world.reactor)
        for member in world.members:
            member.client.pump()
