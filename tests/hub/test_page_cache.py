"""
Pages that many read at about the same time.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

from tests.hub.fakes import Heavy, Member, Prefix, ScriptedJournal, World, turn
from txsse import Access, ServerSentEvent, Update
from txsse.hub import page_cache as shared_module
from txsse.hub.page_cache import SharedPage, SharedPages
from txsse.hub.subscriber import REPLAYING, Subscriber
from txsse.hub.topics import ISelector, TopicSet
from txsse.journal.page import Entry, Page
from txsse.server.sinks.base import Framed


def entries(*kinds: tuple[str, bool]) -> list[Entry]:
    return [
        (number, Update(topic, ServerSentEvent(f"{topic}-{number}", id=str(number)), private=private))
        for number, (topic, private) in enumerate(kinds, 1)
    ]


class Reader:
    """
    Stands for a subscriber.
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


def framed(page: SharedPage, reader: Any) -> tuple[Framed, int]:
    asking = page.allowed_for(reader)
    try:
        while True:
            next(asking)
    except StopIteration as end:
        return page.frames_of(end.value)


def frames(page: SharedPage, reader: Any) -> tuple[bytes, int]:
    found, count = framed(page, reader)
    return found.data, count


class SharedPageTests:
    def test_each_gets_its_own(self) -> None:
        """
        Who may not have an update is not given it for the sake of one who may.
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

    def test_topics_that_look_alike(self) -> None:
        """
        An update to two topics is not one to a topic of their names, and a private one is none to all.
        """
        several = Update(["a", "b"], ServerSentEvent("1", id="1"))
        one = Update("a', 'b", ServerSentEvent("2", id="2"))
        page = SharedPage(Page([(1, several), (2, one)], 2, False))
        assert frames(page, Reader("a")) == (several.frame, 1)
        assert frames(page, Reader("a', 'b")) == (one.frame, 1)

    def test_made_once(self) -> None:
        """
        Those who get the same get the same object, and only the kinds of updates are looked at.
        """
        page = SharedPage(Page(entries(*[("news", False)] * 200), 200, False))
        one, other = Reader("news"), Reader("news", "sport")
        assert framed(page, one) is framed(page, other)
        assert one.asked == other.asked == 1

    def test_patterns(self) -> None:
        """
        Who has the same patterns is told by what they said before; who has others, or may have others of what
        is private, is not.
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
        What is remembered of patterns keeps them in memory, and only so much of them is kept.
        """
        monkeypatch.setattr(shared_module, "_PATTERNS_WEIGHT", 1000)
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
        Only so many are kept; the others get theirs all the same.
        """
        names = [f"topic-{number}" for number in range(20)]
        found = entries(*[(name, False) for name in names])
        page = SharedPage(Page(found, 20, False))
        for name, (_, update) in zip(names, found, strict=True):
            assert frames(page, Reader(name)) == (update.frame, 1)
        assert len(page._made) == shared_module._AUDIENCES


class SharedPagesTests:
    def test_for_a_second(self, world: World) -> None:
        """
        A page is read again after that.
        """
        pages = SharedPages(world.reactor)
        page = SharedPage(Page(entries(("news", False)), 1, False))
        pages.add(0, page)
        world.reactor.advance(0.99)
        assert pages.find(0) is page
        assert pages.find(1) is None
        world.reactor.advance(0.02)
        assert pages.find(0) is None

    def test_bounds(self, world: World) -> None:
        """
        The oldest goes first, and what is large is not kept.
        """
        pages = SharedPages(world.reactor)
        page = SharedPage(Page(entries(("news", False)), 1, False))
        for position in range(20):
            pages.add(position, page)
        assert [position for position in range(20) if pages.find(position)] == list(range(4, 20))
        large = Update("news", ServerSentEvent("x" * 200_000, id="1"))
        pages.add(99, SharedPage(Page([(1, large)], 1, False)))
        assert pages.find(99) is None


class StormTests:
    @pytest.fixture
    def journal(self, world: World) -> ScriptedJournal:
        return ScriptedJournal(reactor=world.reactor)

    @pytest.fixture
    def storm(self, world: World, journal: ScriptedJournal) -> World:
        return World(world.wire, journal=journal)

    def test_pages_are_read_once(self, storm: World, journal: ScriptedJournal) -> None:
        """
        A hundred who come back together read each page once, and the last one each for themselves, since it
        grows.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        members = all_join(storm, journal, first)
        texts = [str(number) for number in range(1, 1001)]
        assert all(member.texts == texts for member in members)
        assert journal.calls.count("read") == 3 + len(members)
        storm.end()

    def test_what_comes_meanwhile(self, storm: World, journal: ScriptedJournal) -> None:
        """
        What is published while they are on their way comes behind it, once.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        members = all_join(storm, journal, first, between=lambda: storm.publish("live"))
        texts = [*map(str, range(1, 1001)), *["live"] * len(members)]
        assert all(member.texts == texts for member in members)
        storm.end()

    def test_forgotten_in_the_end(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Where nobody is on the way any more, nothing is kept.
        """
        first, *_ = storm.publish(*map(str, range(1001)))
        all_join(storm, journal, first)
        assert storm.hub.metrics().replaying == 0
        assert storm.hub._distribution is not None
        assert storm.hub._distribution.replay._shared._pages == {}
        storm.end()

    def test_by_turns(self, storm: World, journal: ScriptedJournal) -> None:
        """
        The reactor has its turn, however many come back at once.
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

    def test_unsubscribed_while_it_waits(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Who has unsubscribed before its turn came gets nothing any more, though its channel is open.
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

    def test_all_are_behind_at_once(
        self, storm: World, journal: ScriptedJournal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        Where the journal lost sight, all read on by turns, and are sent nothing live before they do.
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
        gone = members[-1].channel.watcher
        assert isinstance(gone, Subscriber)
        gone.unsubscribe()
        storm.publish("b")
        settle(storm)
        assert len(moved) == 29
        assert [member.texts for member in members] == [["b"]] * 29 + [[]]
        storm.end()

    def test_another_record(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Where the journal says that its record is another one, what was read of the last one is not used.
        """
        storm.publish("a")
        assert storm.hub._distribution is not None
        replay = storm.hub._distribution.replay
        replay._shared.add(0, SharedPage(Page(entries(("news", False)), 1, False)))
        storm.hub._distribution.updates_missed(journal.head)
        assert replay._shared._pages == {}
        storm.end()

    def test_private(self, storm: World, journal: ScriptedJournal) -> None:
        """
        Those who come back together with others who may have more get only what is theirs.
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
    Have a hundred come back in the same moment.
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
