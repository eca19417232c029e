"""
The state that a client is sent before the changes: its order, position and ID, and what happens in between.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent
from zope.interface import implementer

import txsse.journal.retained_updates
import txsse.journal.window
from tests.fakes import Wire
from tests.hub.fakes import Member, ScriptedJournal, World
from txsse import Access, IRetainingJournal, JournalFailed, TopicPattern
from txsse._timeslice import TimeSlices
from txsse.errors import CloseReason
from txsse.hub.page_cache import SharedFrames
from txsse.hub.replay import Replay
from txsse.journal.retained import RetainedPage


@pytest.fixture
def one_per_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Make pages of one update.
    """
    for module in (txsse.journal.window, txsse.journal.retained_updates):
        monkeypatch.setattr(module, "PAGE_COUNT", 1)


@implementer(IRetainingJournal)
class RetainingJournal(ScriptedJournal):
    """
    A scripted journal that retains updates.
    """


def retain(world: World, *keys: str, **options: Any) -> None:
    """
    Publish an update with each key, whose data is the key.
    """
    for key in keys:
        world.publish(key, retain=key, **options)


def slow_frames(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Let the framing of each page take longer than a slice of time.
    """
    frames_for = SharedFrames.frames_for

    def slowly(shared: SharedFrames, audience: Any) -> Generator[None, None, Any]:
        world.reactor.rightNow += 0.02
        return (yield from frames_for(shared, audience))

    monkeypatch.setattr(SharedFrames, "frames_for", slowly)


class OrderTests:
    def test_newcomer(self, any_world: World) -> None:
        """
        A newcomer gets the newest update of each key in the order of publication, then the later updates.
        """
        world = any_world
        world.publish("1", retain="a")
        world.publish("2", retain="b")
        world.publish("not retained")
        world.publish("3", retain="a")
        member = world.join()
        world.publish("4", retain="b")
        assert member.texts == ["2", "3", "4"]
        assert [event.id for event in member.events[:2]] == ["", ""]

    def test_frames(self, world: World) -> None:
        """
        Retained updates are ordinary events without an ID, and a block with an ID alone follows.
        """
        world.publish("1", retain="a", event="kind", retry=2.5, id="one")
        member = world.join()
        member.client.pump()
        assert member.client.body == b"retry: 2500\nevent: kind\ndata: 1\n\nid: one\n\n"

    def test_private_head(self, world: World) -> None:
        """
        The ID after the state does not disclose that of a private update.
        """
        retain(world, "a")
        world.publish("secret", private=True, id="secret")
        member = world.join()
        assert member.texts == ["a"]
        assert member.last_event_id.startswith("#")

    def test_other_topics(self, world: World) -> None:
        """
        A newcomer gets the retained updates of its topics, and an update of several of them once.
        """
        world.publish("1", topics=["news", "sport"], retain="a")
        world.publish("2", topics="other", retain="a")
        assert world.join(["news", "sport"]).texts == ["1"]
        assert world.join("*").texts == ["1", "2"]
        assert world.join(TopicPattern("*")).texts == ["1", "2"]
        nothing = world.join("nothing")
        assert nothing.texts == [] and nothing.last_event_id

    def test_partly_replaced(self, world: World) -> None:
        """
        An update of two topics that was replaced under one of them is not sent as the state of that one.
        """
        world.publish("1", topics=["news", "sport"], retain="a")
        world.publish("2", topics="sport", retain="a")
        assert world.join("sport").texts == ["2"]
        assert world.join(TopicPattern("sport/**")).texts == ["2"]
        assert world.join("news").texts == ["1"]

    def test_private(self, world: World) -> None:
        """
        A private retained update is sent to subscribers with a grant for its topic, and to no other one.
        """
        retain(world, "secret", private=True)
        retain(world, "open")
        assert world.join().texts == ["open"]
        assert world.join(Access("news", "news")).texts == ["secret", "open"]
        assert world.join(Access("*", "other")).texts == ["open"]

    def test_channel(self, world: World) -> None:
        """
        A channel of the program gets the state, too; and only once, if it subscribes again.
        """
        retain(world, "a")
        member = world.open()
        subscriber = world.hub.subscribe(member.channel, "news")
        assert member.texts == ["a"]
        subscriber.unsubscribe()
        world.publish("b", retain="b")
        world.hub.subscribe(member.channel, "news")
        assert member.texts == ["a", "b"]

    def test_resumption(self, world: World) -> None:
        """
        A client that resumes gets the updates that it has missed, and not the state.
        """
        world.publish("1", retain="a", id="one")
        world.publish("2", retain="b")
        assert world.join(last_event_id="one").texts == ["2"]

    def test_earliest(self, world: World) -> None:
        """
        A client that requests all held updates gets these, with their IDs, and no state.
        """
        world.publish("1", retain="a", id="one")
        world.publish("2", retain="a", id="two")
        member = world.join(last_event_id="earliest")
        assert [(event.data, event.id) for event in member.events] == [("1", "one"), ("2", "two")]

    def test_removal(self, world: World) -> None:
        """
        The removal of a key reaches live and resuming subscribers as an event; newcomers get nothing of it.
        """
        world.publish("1", retain="a", id="one")
        live = world.join()
        removed = world.hub.unretain("news", "a", id="gone")
        assert removed.result == "gone"
        for member in (live, world.join(last_event_id="one")):
            event = member.events[-1]
            assert (event.event, event.data, event.id) == ("unretain", "a", "gone")
        assert world.join().texts == []

    def test_expired(self, world: World) -> None:
        """
        A retained update is sent until its time has passed, also if its page was sent to others just before.
        """
        world.publish("1", retain="a", retain_for=0.5)
        world.publish("2", retain="b")
        assert world.join().texts == ["1", "2"]
        world.reactor.advance(0.5)
        assert world.join().texts == ["2"]

    def test_larger_than_a_page(self, world: World) -> None:
        """
        A retained update that is larger than a page is sent, and so are the ones around it.
        """
        retain(world, "a")
        world.publish("x" * 500_000, retain="large")
        retain(world, "b")
        member = world.join()
        assert [len(text) for text in member.texts] == [1, 500_000, 1]


class SlowTests:
    @pytest.fixture(params=["replay", "close", "latest", "drop"])
    def slow(self, request: pytest.FixtureRequest, new_world: Callable[..., World]) -> World:
        """
        Return a hub with each overflow policy and a small buffer.
        """
        return new_world(upgrader={"slow_policy": request.param, "max_buffer": 1000})

    def test_own_pace(self, slow: World) -> None:
        """
        A slow reader takes a state that is larger than its buffer at its own pace, without being closed and
        without dropped events, whatever its policy is; and it counts as slow neither then nor afterwards.
        """
        keys = [f"{number:04} " + "x" * 2000 for number in range(200)]
        for key in keys:
            slow.publish(key, retain=key[:4])
        member = slow.join()
        member.stop_reading()
        for _ in range(100):
            slow.reactor.advance(1)
        assert member.channel.is_open
        member.read_on()
        slow.reactor.advance(1)
        assert member.texts == keys
        slow.publish("live")
        assert member.texts == [*keys, "live"]
        metrics = slow.hub.metrics()
        assert (metrics.slow_replays, metrics.drops, metrics.closes) == (0, 0, {})
        assert metrics.retained_delivered == 200

    def test_bounded(self, slow: World) -> None:
        """
        A client that reads nothing has no more than a page of its state in memory.
        """
        for number in range(200):
            slow.publish("x" * 2000, retain=str(number))
        member = slow.join()
        member.stop_reading()
        slow.reactor.advance(10)
        assert member.channel.buffered == 0
        transport = member.client.transport
        assert len(getattr(transport, "written", b"")) <= 4 * 65536


class LatestTests:
    def test_newest_of_each_key(self, new_world: Callable[..., World]) -> None:
        """
        With the policy latest, a slow reader gets the newest update of each key, and the removal of a key.
        """
        world = new_world(upgrader={"slow_policy": "latest", "max_buffer": 100_000})
        retain(world, "a", "b")
        member = world.join()
        assert member.texts == ["a", "b"]
        member.stop_reading()
        world.publish("x" * 200_000)
        world.reactor.advance(1)
        for text in ("a 1", "a 2"):
            world.publish(text, retain="a")
            world.reactor.advance(1)
        world.publish("b 1", retain="b")
        world.reactor.advance(1)
        world.hub.unretain("news", "b")
        world.reactor.advance(1)
        world.publish("plain")
        world.reactor.advance(1)
        member.read_on()
        world.reactor.advance(1)
        assert member.texts[3:] == ["a 2", "b", "plain"]


@pytest.mark.usefixtures("one_per_page")
class MovingTests:
    @pytest.fixture
    def world(self, new_world: Callable[..., World], plain: Wire) -> World:
        """
        Return a hub whose journal answers on command.
        """
        self.journal = RetainingJournal(reactor=plain.reactor)
        return new_world(journal=self.journal)

    def stalled(self, world: World) -> Member:
        """
        Return a client that has received a part of its state, and reads no more.
        """
        for key in "abcdef":
            world.publish(key + " " + "x" * 60_000, retain=key)
        member = world.open()
        member.stop_reading()
        world.hub.subscribe(member.channel, "news")
        world.reactor.advance(1)
        return member

    def test_replaced_meanwhile(self, world: World) -> None:
        """
        Updates that replace and remove others while the state is sent follow it. They have no IDs until the
        state is complete, and an ID follows.
        """
        member = self.stalled(world)
        world.publish("e 2", retain="e", id="replaced")
        world.publish("plain", id="plain")
        world.hub.unretain("news", "f", id="removed")
        assert member.last_event_id == ""
        member.read_on()
        world.reactor.advance(1)
        assert [text.split(" ")[0] for text in member.texts] == [*"abcd", "e", "plain", "f"]
        assert [event.id for event in member.events] == [""] * 7
        assert world.hub.resume_id().result == "removed"
        # An opaque ID of this position.
        assert self.journal.find(member.last_event_id).result == self.journal.head
        world.publish("later", id="later")
        assert member.events[-1].id == "later"

    def test_updates_after_completion(self, world: World) -> None:
        """
        The updates after the one that completes the state have their IDs, and none comes twice.
        """
        member = self.stalled(world)
        world.hub.unretain("news", "f", id="removed")
        self.journal.held.add("read")
        member.read_on()
        world.reactor.advance(1)
        # They are in the journal before the page of the updates that follow is read.
        for text in ("1", "2", "3"):
            world.publish(text, id=text)
        self.journal.release("read")
        world.reactor.advance(1)
        found = [(event.data[:1], event.id) for event in member.events[5:]]
        assert found[0] == ("f", "") and [data for data, _ in found[1:]] == ["1", "2", "3"]
        assert [id for _, id in found[1:]] == ["1", "2", "3"]

    def test_several_pages_without_ids(self, world: World) -> None:
        """
        Several pages may follow before the state is complete.
        """
        member = self.stalled(world)
        world.publish("1", id="one")
        world.publish("2", id="two")
        world.hub.unretain("news", "f", id="removed")
        member.read_on()
        world.reactor.advance(1)
        assert [event.data for event in member.events[-3:]] == ["1", "2", "f"]
        assert {event.id for event in member.events} == {""}

    def test_cut_off(self, world: World) -> None:
        """
        A client that is cut off before its state is complete has no ID, and gets the state anew.
        """
        member = self.stalled(world)
        world.publish("a 2", retain="a")
        assert member.last_event_id == ""
        member.leave()
        again = world.join(last_event_id=member.last_event_id)
        world.reactor.advance(1)
        assert [text.split(" ")[0] for text in again.texts] == [*"bcdef", "a"]
        assert again.texts[-1] == "a 2"

    def test_grant_revoked(self, world: World) -> None:
        """
        Private retained updates need the grant at the moment at which they are sent.
        """
        world.publish("secret", retain="zero", private=True)
        for key in "123":
            world.publish(key + "x" * 60_000, retain=key)
        world.publish("secret too", retain="last", private=True)
        member = world.open()
        member.stop_reading()
        subscriber = world.hub.subscribe(member.channel, "news", private="news")
        world.reactor.advance(1)
        subscriber.change("news", private=())
        member.read_on()
        world.reactor.advance(1)
        assert [text.rstrip("x") for text in member.texts] == ["secret", "1", "2", "3"]

    def test_topic_gained(self, world: World) -> None:
        """
        A topic that is gained while the state is sent begins with the next update, as for any subscriber.
        """
        world.publish("sport", topics="sport", retain="a")
        member = self.stalled(world)
        subscriber = next(iter(world.hub.subscribers))
        subscriber.change(["news", "sport"])
        world.publish("later", topics="sport", retain="b")
        member.read_on()
        world.reactor.advance(1)
        assert [text.split(" ")[0] for text in member.texts] == [*"abcdef", "later"]

    def test_unsubscribed(self, world: World) -> None:
        """
        A channel that unsubscribes while its state is sent gets no more of it; and the whole state when it
        subscribes again.
        """
        member = self.stalled(world)
        subscriber = next(iter(world.hub.subscribers))
        subscriber.unsubscribe()
        member.read_on()
        world.reactor.advance(1)
        before = len(member.texts)
        assert before < 6
        world.hub.subscribe(member.channel, "news")
        world.reactor.advance(1)
        assert [text.split(" ")[0] for text in member.texts[before:]] == list("abcdef")

    def test_unsubscribed_while_it_is_read(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A channel that is unsubscribed while a page is read or framed gets nothing of it.
        """
        retain(world, "a", "b")
        pages: list[Deferred[RetainedPage]] = []
        read = self.journal.retained.read

        def read_later(*arguments: Any) -> Deferred[RetainedPage]:
            pages.append(Deferred())
            return pages[-1].addCallback(lambda _: read(*arguments))

        monkeypatch.setattr(self.journal.retained, "read", read_later)
        member = world.open()
        subscriber = world.hub.subscribe(member.channel, "news")
        world.reactor.advance(0)
        subscriber.unsubscribe()
        pages[0].callback(cast(Any, None))
        world.reactor.advance(1)
        assert member.texts == []
        monkeypatch.undo()
        frame = Replay.frame

        async def frame_and_unsubscribe(replay: Replay, subscriber: Any, shared: Any) -> Any:
            framed = await frame(replay, subscriber, shared)
            subscriber.unsubscribe()
            return framed

        monkeypatch.setattr(Replay, "frame", frame_and_unsubscribe)
        member = world.open()
        world.hub.subscribe(member.channel, "news")
        world.reactor.advance(1)
        assert member.texts == []

    def test_journal_fails(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        While the retained updates cannot be read, the stream stays open, and the state is sent afterwards.
        """
        retain(world, "a", "b")
        read = self.journal.retained.read
        attempts: Iterator[int] = iter(range(10))

        def fail_twice(*arguments: Any) -> Any:
            if next(attempts) < 2:
                raise JournalFailed("fake", "is away")
            return read(*arguments)

        monkeypatch.setattr(self.journal.retained, "read", fail_twice)
        member = world.join()
        assert member.texts == [] and member.last_event_id == ""
        world.reactor.advance(1)
        world.publish("c")
        world.reactor.advance(1)
        assert member.texts == ["a", "b", "c"]


class ResetTests:
    @pytest.fixture
    def short(self, new_world: Callable[..., World]) -> World:
        """
        Return a hub whose journal holds two updates.
        """
        return new_world(bounds={"max_count": 2})

    def test_unknown_id(self, short: World) -> None:
        """
        After stream-reset, a client gets the state before the oldest held update, then the held updates.
        """
        retain(short, "a", "b")
        short.publish("1", id="one")
        short.publish("2", id="two")
        member = short.join(last_event_id="gone")
        assert member.texts == ["stream-reset", "a", "b", "1", "2"]
        reset, *state = member.events
        assert json.loads(reset.data) == {"replayed_from": "earliest"}
        assert [event.id for event in (reset, *state[:2])] == [""] * 3
        assert [event.id for event in state[2:]] == ["one", "two"]
        assert short.hub.metrics().gaps == 1

    def test_newer_changes(self, short: World) -> None:
        """
        After stream-reset, a held update of a key comes at its place, and not in the state before.
        """
        retain(short, "a", "b")
        short.publish("1")
        short.publish("a 2", retain="a", id="newest")
        member = short.join(last_event_id="gone")
        assert member.texts == ["stream-reset", "b", "1", "a 2"]
        # The client does not know the older update of the key, so it has no ID before this one.
        assert {event.id for event in member.events} == {""}
        assert member.last_event_id.startswith("#")

    def test_removed_meanwhile(self, short: World) -> None:
        """
        If the last retained update was removed after the gap, a client has no ID before the removal.
        """
        retain(short, "a")
        short.publish("1")
        short.hub.unretain("news", "a", id="removed")
        member = short.join(last_event_id="gone")
        assert member.texts == ["stream-reset", "1", "a"]
        assert {event.id for event in member.events} == {""}
        assert member.last_event_id.startswith("#")

    def test_cut_off_after_reset(self, short: World) -> None:
        """
        A client that is cut off after stream-reset and before its state is notified and gets the state again.
        """
        for number in range(6):
            short.publish("x" * 60_000, retain=str(number))
        short.publish("1")
        short.publish("2")
        for _ in range(2):
            member = short.join(last_event_id="gone")
            assert member.texts[0] == "stream-reset"
            member.leave()

    def test_slow_reader(self, new_world: Callable[..., World]) -> None:
        """
        A slow reader that has missed updates gets the state again after stream-reset, on the same stream.
        """
        world = new_world(bounds={"max_count": 2}, upgrader={"slow_policy": "replay", "max_buffer": 1000})
        retain(world, "a")
        member = world.join()
        assert member.texts == ["a"]
        member.stop_reading()
        for number in range(20):
            world.publish("x" * 20_000, id=f"{number}")
            world.reactor.advance(0.1)
        member.read_on()
        world.reactor.advance(1)
        texts = member.texts
        reset = texts.index("stream-reset")
        assert texts[reset + 1] == "a"
        assert len(texts) == reset + 4 and member.last_event_id == "19"

    def test_never_retained(self, short: World) -> None:
        """
        A hub that retains nothing sends stream-reset with an ID, from which the client resumes.
        """
        for text in "123":
            short.publish(text)
        reset = short.join(last_event_id="gone").events[0]
        assert reset.id.startswith("#") if reset.id else False


class LimitTests:
    @pytest.fixture
    def limited(self, new_world: Callable[..., World]) -> World:
        """
        Return a hub with a limit of the retained updates for one stream.
        """
        world = new_world(max_retained_bytes_per_stream=5000)
        for number in range(20):
            world.publish("x" * 1000, topics=str(number), retain="a", private=number >= 10)
        return world

    @pytest.mark.parametrize("rule", ["*", TopicPattern("*"), [str(number) for number in range(10)]])
    @pytest.mark.parametrize("last_event_id", [None, "unknown"])
    def test_refused(self, limited: World, rule: Any, last_event_id: str | None) -> None:
        """
        A request for more retained updates than one stream may get is refused, with a reason.
        """
        for topics in (rule, lambda request: rule):
            client = limited.join(topics, last_event_id=last_event_id).client
            limited.reactor.advance(1)
            client.pump()
            assert client.status == 400
            assert b"more than 5000 bytes; subscribe to fewer" in client.body

    def test_within(self, limited: World) -> None:
        """
        Only updates that the stream would be sent count.
        """
        assert len(limited.join(["0", "1", "2"]).texts) == 3
        assert len(limited.join(["3", *map(str, range(10, 20))]).texts) == 1
        assert limited.join("nothing").texts == []
        assert limited.join(last_event_id="earliest").opened is not None

    def test_later(self, limited: World, failures: list[LogEvent]) -> None:
        """
        A stream whose state has become too large when it needs it is closed, with a log entry.
        """
        member = limited.open()
        limited.hub.subscribe(member.channel, "*")
        limited.reactor.advance(1)
        assert not member.channel.is_open
        assert member.channel.close_reason is CloseReason.SERVER_CLOSED
        assert limited.hub.metrics().failures == 1
        assert "have more than 5000 bytes" in str(failures[0]["log_failure"].value)

    def test_measured_in_slices(self, limited: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The reactor has its turns while the retained updates of a pattern are measured.
        """
        slow_frames(limited, monkeypatch)
        for module in (txsse.journal.window, txsse.journal.retained_updates):
            monkeypatch.setattr(module, "PAGE_COUNT", 1)
        waits: list[float] = []
        wait = TimeSlices.wait

        def count(turns: TimeSlices) -> Deferred[None]:
            waits.append(limited.reactor.seconds())
            return wait(turns)

        monkeypatch.setattr(TimeSlices, "wait", count)
        member = limited.join("*")
        for _ in range(20):
            limited.reactor.advance(0.1)
        member.client.pump()
        assert member.client.status == 400 and waits

    def test_small_state(self, new_world: Callable[..., World]) -> None:
        """
        If all retained updates together are within the limit, none is counted.
        """
        world = new_world(max_retained_bytes_per_stream=10_000)
        retain(world, "a")
        assert world.join("*").texts == ["a"]
