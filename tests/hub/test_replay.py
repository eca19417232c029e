"""
Replay: subscribers that catch up from the journal, after a reconnection, a slow phase or missed updates.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import Member, Prefix, ScriptedJournal, World, turn
from txsse import Access, CloseReason, JournalFailed, MemoryJournal
from txsse.hub import replay as replay_module
from txsse.hub.replay import stream_reset
from txsse.journal.page import Page


class ResumeTests:
    def test_each_way(self, any_world: World) -> None:
        """
        On every kind of connection, a client that resumes gets the updates that it missed, in order, and then
        live ones.
        """
        ids = any_world.publish("a", "b", "c", "d")
        member = any_world.join(last_event_id=ids[1])
        assert member.texts == ["c", "d"]
        any_world.publish("e")
        assert member.texts == ["c", "d", "e"]
        metrics = any_world.hub.metrics()
        assert (metrics.replayed, metrics.delivered, metrics.gaps, metrics.replaying) == (2, 3, 0, 0)

    def test_bytes_of_a_replay(self, world: World) -> None:
        """
        A replay sends the same frames as live delivery, and nothing else.
        """
        first, second, third = world.publish("a", "b\nc", "d")
        member = world.join(last_event_id=first)
        member.client.pump()
        assert member.client.body.decode() == (f"id: {second}\ndata: b\ndata: c\n\nid: {third}\ndata: d\n\n")

    def test_without_last_event_id(self, world: World) -> None:
        """
        A client without a last event ID gets no earlier updates.
        """
        world.publish("a")
        member = world.join()
        assert member.texts == []
        world.publish("b")
        assert member.texts == ["b"]
        assert world.hub.metrics().replayed == 0

    def test_resumes_before_its_first_event(self, world: World) -> None:
        """
        A client that disconnects before its first event resumes from the id that the hub sent it, without a
        gap.
        """
        (first,) = world.publish("a")
        member = world.join()
        assert member.last_event_id == first
        member.leave()
        world.publish("b")
        assert world.join(last_event_id=member.last_event_id).texts == ["b"]
        assert world.hub.metrics().gaps == 0

    def test_resumes_from_an_empty_journal(self, world: World) -> None:
        """
        A client that connected while the journal was empty has a resume ID for its beginning, and resumes
        without a gap.
        """
        member = world.join()
        assert member.events == []
        assert member.last_event_id != ""
        member.leave()
        texts = ["a", "b"]
        world.publish(*texts)
        assert world.join(last_event_id=member.last_event_id).texts == texts
        assert world.hub.metrics().gaps == 0

    def test_resume_id_of_a_dropped_beginning(self, new_world: Callable[..., World]) -> None:
        """
        A client that resumes from the journal's beginning after updates were dropped gets ``stream-reset``.
        """
        world = new_world(bounds={"max_count": 2})
        origin = world.join().last_event_id
        world.publish("a", "b", "c")
        assert world.join(last_event_id=origin).texts == ["stream-reset", "b", "c"]

    def test_earliest(self, world: World) -> None:
        """
        ``Last-Event-ID: earliest`` replays all updates that the journal holds, and is no gap.
        """
        world.publish("a", "b")
        member = world.join(last_event_id="earliest")
        assert member.texts == ["a", "b"]
        assert world.hub.metrics().gaps == 0

    def test_earliest_of_an_empty_journal(self, world: World) -> None:
        """
        ``Last-Event-ID: earliest`` replays nothing if the journal is empty.
        """
        member = world.join(last_event_id="earliest")
        assert member.texts == []
        world.publish("a")
        assert member.texts == ["a"]

    def test_unknown_id(self, world: World) -> None:
        """
        A client with an unknown last event ID gets ``stream-reset`` and all updates that the journal holds.
        """
        world.publish("a", "b")
        member = world.join(last_event_id="who knows")
        assert member.texts == ["stream-reset", "a", "b"]
        reset = member.events[0]
        assert json.loads(reset.data) == {"replayed_from": "earliest"}
        assert world.join(last_event_id=reset.id).texts == ["a", "b"]
        world.publish("c")
        assert member.texts == ["stream-reset", "a", "b", "c"]
        assert world.hub.metrics().gaps == 1

    def test_unknown_id_and_several_pages(self, world: World) -> None:
        """
        A gap before a replay of several pages is reported once, before the first page.
        """
        texts = [str(number) for number in range(600)]
        world.publish(*texts)
        assert world.join(last_event_id="who knows").texts == ["stream-reset", *texts]
        assert world.hub.metrics().gaps == 1

    def test_dropped_id(self, new_world: Callable[..., World]) -> None:
        """
        A client gets ``stream-reset`` if the journal dropped the update that follows its last event ID.
        """
        world = new_world(bounds={"max_count": 2})
        ids = world.publish("a", "b", "c")
        assert world.join(last_event_id=ids[0]).texts == ["stream-reset", "b", "c"]
        assert world.join(last_event_id=ids[1]).texts == ["c"]
        assert world.hub.metrics().gaps == 1

    def test_newest_id(self, world: World) -> None:
        """
        A client that resumes from the newest update gets live updates only.
        """
        ids = world.publish("a", "b")
        member = world.join(last_event_id=ids[1])
        world.publish("c")
        assert member.texts == ["c"]

    def test_dropped_newest_id(self, new_world: Callable[..., World]) -> None:
        """
        A client that has the newest update gets no ``stream-reset``, even if the journal dropped that update.
        """
        world = new_world(bounds={"max_age": 60.0})
        (newest,) = world.publish("a")
        world.reactor.advance(61)
        member = world.join()
        assert member.last_event_id == newest
        member.leave()
        again = world.join(last_event_id=member.last_event_id)
        world.publish("b")
        assert again.texts == ["b"]
        assert world.hub.metrics().gaps == 0

    def test_custom_id(self, world: World) -> None:
        """
        A client resumes from a publisher's own id as from an id that the hub made.
        """
        world.publish("a", id="püb 1")
        world.publish("b")
        assert world.join(path="/?lastEventId=p%C3%BCb%201").texts == ["b"]

    def test_topics_of_the_subscription(self, world: World) -> None:
        """
        A replay has each missed update of the subscription's topics and patterns once, and no others.
        """
        (first,) = world.publish("first")
        world.publish("a")
        world.publish("b", topics="sport/1")
        world.publish("c", topics=["sport/2", "news"])
        world.publish("d", topics="other")
        assert world.join(["news", Prefix("sport/")], last_event_id=first).texts == ["a", "b", "c"]
        assert world.join(last_event_id=first).texts == ["a", "c"]
        assert world.join("*", last_event_id=first).texts == ["a", "b", "c", "d"]

    def test_no_update_of_its_topics(self, world: World) -> None:
        """
        If none of the missed updates has the client's topics, nothing is sent, and the client is live.
        """
        (first,) = world.publish("first")
        world.publish("a", topics="other")
        member = world.join(last_event_id=first)
        assert member.events == []
        world.publish("b")
        assert member.texts == ["b"]
        assert world.hub.metrics().replayed == 0

    def test_private(self, world: World) -> None:
        """
        A replay sends private updates only to clients with a grant, as live delivery does.
        """
        (first,) = world.publish("first")
        world.publish("secret", private=True)
        world.publish("for all")
        granted = world.join(Access("news", private="news"), last_event_id=first)
        public = world.join(Access("news", private="sport"), last_event_id=first)
        assert granted.texts == ["secret", "for all"]
        assert public.texts == ["for all"]

    def test_page_by_page(self, world: World) -> None:
        """
        A large replay is sent page by page, with a turn of the reactor before each page.
        """
        (first,) = world.publish("first")
        texts = [str(number) for number in range(600)]
        world.publish(*texts)
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        opened.socket.sends.clear()
        world.hub.subscribe(opened.channel, "news")
        counts: list[int] = []
        for _ in range(4):
            assert world.hub.metrics().replaying == (1 if len(counts) < 3 else 0)
            turn(world.reactor)
            counts.append(world.hub.metrics().replayed)
        assert counts == [256, 512, 600, 600]
        assert len(opened.socket.sends) == 3
        assert opened.texts == texts

    def test_published_during_the_replay(self, world: World) -> None:
        """
        Updates that are published during a replay follow it in the order of the journal, none missing and
        none twice.
        """
        (first,) = world.publish("first")
        texts = [str(number) for number in range(600)]
        world.publish(*texts)
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        number = 0
        while world.hub.metrics().replaying:
            number += 1
            texts.append(f"meanwhile {number}")
            world.publish(texts[-1])
            turn(world.reactor)
        texts.append("live")
        world.publish(texts[-1])
        assert opened.texts == texts
        assert number >= 3

    def test_cut_at_every_event(self, world: World) -> None:
        """
        A client that is cut off after each event, and resumes, receives the whole record.
        """
        (last_id,) = world.publish("first")
        record, seen = ["first"], ["first"]
        for number in range(40):
            record += [f"{number} before", f"{number} while there"]
            world.publish(record[-2])
            member = world.join(last_event_id=last_id)
            if number % 3:
                turn(world.reactor)
            world.publish(record[-1])
            if number % 5 == 0:
                turn(world.reactor)
            member.client.receive()
            seen += member.texts if number % 2 else member.texts[:1]
            last_id = member.events[-1].id if number % 2 else member.events[0].id  # type: ignore[assignment]
            member.leave()
        seen += world.join(last_event_id=last_id).texts
        assert seen == record

    def test_slow_client(self, world: World) -> None:
        """
        The hub reads no more than one page ahead for a client that does not read.
        """
        (first,) = world.publish("first")
        texts = [f"{number} {'x' * 10_000}" for number in range(50)]
        world.publish(*texts)
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        opened.stop_reading()
        world.hub.subscribe(opened.channel, "news")
        for _ in range(10):
            turn(world.reactor)
        metrics = world.hub.metrics()
        assert (metrics.replayed, metrics.replaying, metrics.behind, metrics.buffered) == (7, 1, 1, 0)
        opened.read_on()
        assert opened.texts == texts
        assert world.hub.metrics().replaying == 0
        assert world.hub.metrics().slow_replays == 0

    def test_client_becomes_slow_before_a_page(self, world: World) -> None:
        """
        If other data makes the client slow before a page is sent, the page is sent later, once.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        world.publish("a", "b")
        journal.held.add("read")
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        assert journal.calls.count("read") == 1
        opened.client.pump()
        opened.stop_reading()
        opened.channel.send("x" * 100_000)
        journal.release("read")
        assert world.hub.metrics().replayed == 0
        opened.read_on()
        assert [text[:1] for text in opened.texts] == ["x", "a", "b"]
        assert journal.calls.count("read") == 2
        metrics = world.hub.metrics()
        assert (metrics.replayed, metrics.delivered, metrics.replaying) == (2, 2, 0)
        world.end()

    def test_client_becomes_slow_before_a_reset(self, world: World) -> None:
        """
        If other data makes the client slow before ``stream-reset`` is sent, it is still sent once.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        world.publish("a", "b")
        journal.held.add("read")
        opened = world.open(headers={"Last-Event-ID": "unknown"})
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        opened.client.pump()
        opened.stop_reading()
        opened.channel.send("x" * 100_000)
        journal.release("read")
        opened.read_on()
        assert [text[:6] for text in opened.texts] == ["xxxxxx", "stream", "a", "b"]
        assert world.hub.metrics().gaps == 1
        world.end()

    def test_gap_between_pages(self, new_world: Callable[..., World]) -> None:
        """
        If the journal drops updates during a replay, ``stream-reset`` is sent once, between the pages around
        the gap.
        """
        world = new_world(bounds={"max_count": 300})
        (first,) = world.publish("first")
        world.publish(*[str(number) for number in range(299)])
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        assert world.hub.metrics().replayed == 256
        world.publish(*[f"new {number}" for number in range(280)])
        texts = opened.texts
        assert texts[:256] == [str(number) for number in range(256)]
        assert texts[256] == "stream-reset"
        assert texts[257:277] == [str(number) for number in range(279, 299)]
        assert texts[277:] == [f"new {number}" for number in range(280)]
        assert world.hub.metrics().gaps == 1

    def test_bytes(self, world: World) -> None:
        """
        The metric of sent bytes includes replays and ``stream-reset``.
        """
        world.publish("a")
        world.reactor.run_soon()
        member = world.join(last_event_id="unknown")
        assert member.texts == ["stream-reset", "a"]
        metrics = world.hub.metrics()
        assert metrics.bytes == len(member.client.body)
        assert (metrics.delivered, metrics.replayed) == (1, 1)


class EndTests:
    def resuming(self, world: World) -> tuple[World, ScriptedJournal, Member]:
        """
        Return a world whose member waits for a page of the journal.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        world.publish("a")
        world.reactor.run_soon()
        journal.held.add("read")
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        assert journal.calls[-1] == "read"
        return world, journal, opened

    def test_client_disconnects(self, world: World, failures: list[LogEvent]) -> None:
        """
        A replay ends when its client disconnects, and logs no failure.
        """
        world, journal, member = self.resuming(world)
        member.leave()
        journal.release("read")
        assert world.hub.metrics().replaying == 0
        assert world.hub.metrics().replayed == 0
        assert journal.calls.count("read") == 1
        assert failures == []

    def test_client_disconnects_before_the_first_page(self, world: World, failures: list[LogEvent]) -> None:
        """
        The hub reads no page for a client that disconnects before its replay begins.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        assert world.hub.metrics().replaying == 1
        opened.leave()
        assert world.hub.metrics().replaying == 0
        assert "read" not in journal.calls
        assert failures == []

    def test_unsubscribed(self, world: World) -> None:
        """
        A replaying subscriber that unsubscribes is sent no further update, and its channel stays open.
        """
        world, journal, member = self.resuming(world)
        (subscriber,) = world.hub._membership.by_channel.values()
        subscriber.unsubscribe()
        journal.release("read")
        world.publish("b")
        assert member.texts == []
        assert member.channel.is_open
        assert world.hub.metrics().replaying == 0
        world.end()

    def test_unsubscribed_between_pages(self, world: World) -> None:
        """
        A subscriber that unsubscribes between two pages of a replay is not sent the second one.
        """
        (first,) = world.publish("first")
        world.publish(*map(str, range(300)))
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        subscriber = world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        subscriber.unsubscribe()
        assert opened.texts == [str(number) for number in range(256)]
        assert world.hub.metrics().replaying == 0

    def test_unsubscribed_while_a_page_is_sent(self, world: World) -> None:
        """
        A subscriber that unsubscribes while a page is sent gets that page whole, and nothing after it.
        """
        (first,) = world.publish("first")
        world.publish(*map(str, range(300)))
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        subscriber = world.hub.subscribe(opened.channel, "news")
        opened.socket.before_send = subscriber.unsubscribe
        turn(world.reactor)
        assert world.hub.metrics().replaying == 0
        world.publish("live")
        assert opened.texts == [str(number) for number in range(256)]

    def test_subscribed_again(self, world: World) -> None:
        """
        A channel that changes its topics during a replay gets each update once.
        """
        world, journal, member = self.resuming(world)
        (subscriber,) = world.hub._membership.by_channel.values()
        subscriber.unsubscribe()
        world.hub.subscribe(member.channel, ["news", "sport"])
        journal.release("read")
        world.publish("b", topics="sport")
        assert member.texts == ["a", "b"]
        world.end()

    def test_subscribed_again_before_the_start(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        The position of a channel that changes its topics before the journal has started is looked up once,
        and the channel gets each update once.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        journal.held.add("start")
        world = new_world(journal=journal)
        opened = world.open(headers={"Last-Event-ID": "gone"})
        first = world.hub.subscribe(opened.channel, "news")
        first.unsubscribe()
        world.hub.subscribe(opened.channel, ["news", "sport"])
        journal.release("start")
        world.publish("a", topics="sport")
        world.reactor.run_soon()
        assert journal.calls.count("find") == 1
        assert opened.texts[-1] == "a"
        assert opened.texts.count("a") == 1
        assert world.hub.metrics().replaying == 0

    def test_subscribed_again_while_a_page_is_sent(self, world: World) -> None:
        """
        A channel that changes its topics while a page is sent continues its replay after that page.
        """
        (first,) = world.publish("first")
        world.publish(*map(str, range(600)))
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        subscriber = world.hub.subscribe(opened.channel, "news")

        def again() -> None:
            opened.socket.before_send = int
            subscriber.unsubscribe()
            world.hub.subscribe(opened.channel, ["news", "sport"])

        opened.socket.before_send = again
        world.reactor.run_soon()
        world.publish("live", topics="sport")
        assert opened.texts == [*map(str, range(600)), "live"]
        world.end()

    def test_subscribed_again_when_live(self, world: World) -> None:
        """
        A live channel that changes its topics continues at its position: no update is sent twice, and updates
        published in between are sent.
        """
        (first,) = world.publish("first")
        world.publish("a", "b")
        world.reactor.run_soon()
        opened = world.open(headers={"Last-Event-ID": first})
        subscriber = world.hub.subscribe(opened.channel, "news")
        world.reactor.run_soon()
        world.publish("c")
        world.reactor.run_soon()
        subscriber.unsubscribe()
        world.publish("while it was away")
        world.reactor.run_soon()
        again = world.hub.subscribe(opened.channel, ["news", "sport"])
        world.publish("d", topics="sport")
        world.reactor.run_soon()
        assert opened.texts == ["a", "b", "c", "while it was away", "d"]
        again.unsubscribe()
        world.end()
        assert len(world.hub._membership._progress) <= 1

    def test_channel_closes(self, world: World, failures: list[LogEvent]) -> None:
        """
        A channel that is closed during a replay gets no further page.
        """
        world, journal, member = self.resuming(world)
        member.channel.close()
        journal.release("read")
        assert member.texts == []
        assert member.client.ended
        assert failures == []
        assert world.hub.metrics().failures == 0

    def test_failing_subscriber(self, world: World, failures: list[LogEvent]) -> None:
        """
        An error while a page is sent resets the client's connection, and is logged.
        """
        world, journal, member = self.resuming(world)
        member.socket.error = ZeroDivisionError("broken")
        journal.release("read")
        world.reactor.run_soon()
        assert member.client.reset
        assert member.channel.close_reason is CloseReason.SERVER_CLOSED
        (event,) = failures
        assert event["log_format"] == "{subscriber} is dropped"
        assert str(event["subscriber"]).startswith("<Subscriber 1 ")
        metrics = world.hub.metrics()
        assert (metrics.failures, metrics.replaying, metrics.channels) == (1, 0, 0)


class FailingJournalTests:
    def failing(self, world: World, *names: str) -> tuple[World, ScriptedJournal, Member]:
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        world.publish("a")
        world.reactor.run_soon()
        for name in names:
            journal.errors[name] = OSError("no journal")
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        world.hub.subscribe(opened.channel, "news")
        world.reactor.run_soon()
        return world, journal, opened

    @pytest.mark.parametrize("name", ["read", "find"])
    def test_retry(self, world: World, failures: list[LogEvent], name: str) -> None:
        """
        The hub retries a journal that fails every second, until it answers; then the client gets every
        update.
        """
        world, journal, member = self.failing(world, name)
        assert journal.calls.count(name) == 1
        world.publish("b")
        world.reactor.advance(0.9)
        assert journal.calls.count(name) == 1
        world.reactor.advance(0.2)
        assert journal.calls.count(name) == 2
        del journal.errors[name]
        world.reactor.advance(1)
        world.publish("c")
        assert member.texts == ["a", "b", "c"]
        assert [event["log_failure"].type for event in failures] == [OSError] * 2
        assert world.hub.metrics().failures == 0
        world.end()

    def test_journal_failed_is_not_logged(self, world: World, failures: list[LogEvent]) -> None:
        """
        A replay does not log ``JournalFailed``, because the journal logs its problem itself.
        """
        world, journal, member = self.failing(world, "read")
        journal.errors["read"] = JournalFailed("journal", "not now")
        failures.clear()
        world.reactor.advance(3)
        assert failures == []
        del journal.errors["read"]
        world.reactor.advance(1)
        assert member.texts == ["a"]
        world.end()

    @pytest.mark.parametrize("name", ["read", "find"])
    def test_client_disconnects_before_the_retry(self, world: World, name: str) -> None:
        """
        The hub does not retry a failing journal for a client that has disconnected.
        """
        world, journal, member = self.failing(world, name)
        member.leave()
        world.reactor.advance(1)
        assert journal.calls.count(name) == 1
        assert world.hub.metrics().replaying == 0
        assert world.reactor.getDelayedCalls() == []

    def test_client_disconnects_during_the_lookup(self, world: World) -> None:
        """
        If the client disconnects while its position is looked up, the result is ignored.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        journal.held.add("find")
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        opened.leave()
        journal.release("find")
        assert world.hub.metrics().replaying == 0
        assert world.hub.metrics().failures == 0
        assert "read" not in journal.calls


class FailingForManyTests:
    @pytest.mark.parametrize("fails", [False, True])
    def test_read_once_for_all(self, world: World, failures: list[LogEvent], fails: bool) -> None:
        """
        Subscribers that need the same page at the same time share one read, and its failure.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        first, _ = world.publish("a", "b")
        journal.held.add("read")
        members = [world.join(last_event_id=first) for _ in range(5)]
        world.reactor.run_soon()
        assert journal.calls.count("read") == 1
        if fails:
            journal.errors["read"] = OSError("no journal")
        journal.release("read")
        world.reactor.run_soon()
        assert len(failures) == fails
        journal.errors.clear()
        world.reactor.advance(1)
        assert [member.texts for member in members] == [["b"]] * 5
        world.end()

    def test_one_entry_in_the_log(self, world: World, failures: list[LogEvent]) -> None:
        """
        A failing journal is logged once per retry, not once per waiting subscriber.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        first, _ = world.publish("a", "b")
        journal.errors["read"] = OSError("no journal")
        members = [world.join(last_event_id=first) for _ in range(5)]
        world.reactor.run_soon()
        assert len(failures) == 1
        assert len(world.reactor.getDelayedCalls()) == 1
        world.reactor.advance(1)
        world.reactor.run_soon()
        assert len(failures) == 2
        del journal.errors["read"]
        world.reactor.advance(1)
        assert [member.texts for member in members] == [["b"]] * 5
        assert world.hub.metrics().replaying == 0
        world.end()

    def test_retry_in_slices(self, world: World) -> None:
        """
        The retries of many waiting subscribers are spread over turns of the reactor.
        """

        class Slow(ScriptedJournal):
            """
            A journal whose every lookup takes 6 ms.
            """

            def find(self, id: str) -> Deferred[int | None]:
                world.reactor.rightNow += 0.006
                return super().find(id)

        journal = Slow(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        first, _ = world.publish("a", "b")
        journal.errors["find"] = JournalFailed("journal", "not now")
        members = [world.join(last_event_id=first) for _ in range(6)]
        world.reactor.run_soon()
        del journal.errors["find"]
        world.reactor.rightNow += 1
        before = journal.calls.count("find")
        counts = []
        for _ in range(4):
            turn(world.reactor)
            counts.append(journal.calls.count("find") - before)
        assert counts == [2, 4, 6, 6]
        world.reactor.run_soon()
        assert [member.texts for member in members] == [["b"]] * 6
        world.end()


class SlowJournalTests:
    def test_head_moves_while_a_page_is_read(self, world: World) -> None:
        """
        An update that is appended while a page is read is in the next page: a subscriber is live only at the
        head.
        """

        class Delayed(ScriptedJournal):
            """
            A journal whose pages are outdated when they arrive.
            """

            def read(self, after: int) -> Deferred[Page]:
                answer = MemoryJournal.read(self, after)
                if "read" not in self.held:
                    self.calls.append("read")
                    return answer
                return self._answer("read", lambda: answer)

        journal = Delayed(reactor=world.reactor)
        world = World(world.wire, journal=journal)
        (first,) = world.publish("first")
        world.publish("a")
        journal.held.add("read")
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        turn(world.reactor)
        world.publish("b")
        turn(world.reactor)
        journal.release("read")
        world.publish("c")
        assert opened.texts == ["a", "b", "c"]
        assert journal.calls.count("read") == 2
        assert world.hub.metrics().replayed == 3
        world.end()

    def test_slow_start(self, world: World) -> None:
        """
        A client that subscribes before the journal has started gets all updates that are published from then
        on.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        journal.held.add("start")
        world = World(world.wire, journal=journal)
        opened = world.open()
        world.hub.subscribe(opened.channel, "news")
        published = world.hub.publish("news", "a")
        assert opened.texts == []
        assert not published.called
        journal.release("start")
        assert opened.texts == ["a"]
        assert published.called
        assert opened.last_event_id == opened.events[0].id
        world.end()

    def test_resume_id_after_a_slow_start(self, world: World) -> None:
        """
        A client that subscribes before the journal has started gets its first resume ID when the journal has
        started.
        """
        journal = ScriptedJournal(reactor=world.reactor)
        journal.held.add("start")
        world = World(world.wire, journal=journal)
        opened = world.open()
        world.hub.subscribe(opened.channel, "news")
        assert opened.last_event_id == ""
        journal.release("start")
        assert opened.last_event_id != ""
        assert opened.events == []
        opened.leave()
        world.publish("a")
        assert world.join(last_event_id=opened.last_event_id).texts == ["a"]
        world.end()


class StreamResetTests:
    def test_frame(self) -> None:
        """
        ``stream-reset`` is an event with an id and JSON data.
        """
        assert stream_reset("a") == b'id: a\nevent: stream-reset\ndata: {"replayed_from":"earliest"}\n\n'

    def test_resumed_from(self, new_world: Callable[..., World]) -> None:
        """
        A client that resumes from the id of ``stream-reset`` gets the following updates once and no second
        reset; the id discloses no private update.
        """
        world = new_world(bounds={"max_count": 4})
        ids = [
            world.publish(text, private=private)[0]
            for text, private in zip("abcdef", [0, 1] * 3, strict=True)
        ]
        for last_id in (ids[0], ids[1], "unknown"):
            member = world.join(last_event_id=last_id)
            reset = member.events[0]
            assert member.texts == ["stream-reset", "c", "e"]
            assert reset.id is not None and reset.id not in ids
            assert world.join(last_event_id=reset.id).texts == ["c", "e"]
            assert world.join(Access("news", private="news"), last_event_id=reset.id).texts == [*"cdef"]
        assert world.hub.metrics().gaps == 3

    def test_journal_is_empty(self, new_world: Callable[..., World]) -> None:
        """
        If the journal holds no update, the id of ``stream-reset`` stands for the head.
        """
        world = new_world(bounds={"max_age": 10.0})
        (first, _) = world.publish("a", "b")
        world.reactor.advance(11)
        member = world.join(last_event_id=first)
        assert member.texts == ["stream-reset"]
        world.publish("c")
        assert world.join(last_event_id=member.events[0].id).texts == ["c"]

    def test_gap_before_the_first_id(self, new_world: Callable[..., World]) -> None:
        """
        A client that is slow from the beginning, and has a gap before its first id, gets only the id of
        ``stream-reset``.
        """
        world = new_world(bounds={"max_count": 2})
        opened = world.open()
        opened.client.stop_reading()
        while opened.channel.buffered < 1:
            opened.channel.send("x" * 70_000)
        world.hub.subscribe(opened.channel, "news")
        world.publish("a", "b", "c")
        world.reactor.run_soon()
        opened.read_on()
        opened.client.pump()
        resets = [event for event in opened.events if event.event == "stream-reset"]
        assert [event.data for event in opened.events if len(event.data) == 1] == ["b", "c"]
        assert len(resets) == 1
        body = opened.client.body
        assert body.count(b"\nid: ") + body.startswith(b"id: ") == 3
        assert world.join(last_event_id=resets[0].id).texts == ["b", "c"]

    def test_retry_interval(self) -> None:
        """
        The hub retries a failing journal after one second.
        """
        assert replay_module._RETRY_JOURNAL == 1.0


class MissedTests:
    def test_all_replay(self, world: World) -> None:
        """
        When the journal reports missed updates, every live subscriber replays them, once.
        """
        members = [world.join(), world.join("*")]
        world.publish("a")
        world.reactor.run_soon()
        unseen(world, "b")
        assert [member.texts for member in members] == [["a", "b"]] * 2
        world.publish("c")
        assert [member.texts for member in members] == [["a", "b", "c"]] * 2
        metrics = world.hub.metrics()
        assert (metrics.slow_replays, metrics.gaps, metrics.replaying) == (2, 0, 0)

    def test_before_the_first_update(self, world: World) -> None:
        """
        When the journal reports missed updates, a subscriber that was sent nothing yet replays from where it
        subscribed.
        """
        world.publish("a")
        world.reactor.run_soon()
        first = world.join()
        unseen(world, "b")
        assert first.texts == ["b"]

    def test_before_the_fan_out(self, world: World) -> None:
        """
        An update that waits for its fan-out when the journal reports missed ones is sent once, in order.
        """
        member = world.join()
        world.publish("a")
        unseen(world, "b")
        world.publish("c")
        assert member.texts == ["a", "b", "c"]

    def test_subscriber_is_replaying(self, world: World) -> None:
        """
        A replaying subscriber finds missed updates in the journal.
        """
        (first,) = world.publish("first")
        opened = world.open(headers={"Last-Event-ID": first})
        world.hub.subscribe(opened.channel, "news")
        unseen(world, "a")
        assert opened.texts == ["a"]
        assert world.hub.metrics().slow_replays == 0

    def test_dropped_by_the_journal(self, new_world: Callable[..., World]) -> None:
        """
        If the journal dropped the missed updates, every subscriber gets ``stream-reset``.
        """
        world = new_world(bounds={"max_count": 1})
        member = world.join()
        world.publish("a")
        world.reactor.run_soon()
        unseen(world, "b", "c")
        assert member.texts == ["a", "stream-reset", "c"]

    def test_resumes_afterwards(self, world: World) -> None:
        """
        A client that resumes from an update before the missed ones gets these.
        """
        (last,) = world.publish("a")
        world.reactor.run_soon()
        unseen(world, "b")
        assert world.join(last_event_id=last).texts == ["b"]

    def test_connects_afterwards(self, world: World) -> None:
        """
        A client that connects for the first time after missed updates gets none of them, now or when it
        resumes.
        """
        world.publish("a")
        world.reactor.run_soon()
        unseen(world, "b")
        member = world.join()
        assert member.texts == []
        member.leave()
        world.publish("c")
        if member.last_event_id:
            assert world.join(last_event_id=member.last_event_id).texts == ["c"]

    def test_during_a_send(self, world: World) -> None:
        """
        If the journal reports missed updates while an update is sent, the subscribers replay after that
        update.
        """
        members = [world.join() for _ in range(3)]
        world.reactor.run_soon()
        texts = ["b"]
        members[1].client.pump()
        members[1].socket.before_send = lambda: texts and unseen(world, texts.pop())  # type: ignore[func-returns-value]
        world.publish("a")
        world.reactor.run_soon()
        assert [member.texts for member in members] == [["a", "b"]] * 3
        assert world.hub.metrics().gaps == 0

    def test_between_slices(self, world: World) -> None:
        """
        If the journal reports missed updates between two slices of a fan-out, each subscriber gets the update
        of the fan-out and the missed ones.
        """
        members = [world.join() for _ in range(200)]
        for member in members:
            member.client.pump()
            member.socket.cost = 0.0001
        world.publish("a")
        turn(world.reactor)
        unseen(world, "b")
        assert all(member.texts == ["a", "b"] for member in members[:128])
        assert all(member.texts == ["a", "b"] for member in members[128:])


def unseen(world: World, *texts: str) -> None:
    """
    Append updates to the journal without a call of the hub's ``update_appended``, then report them as missed.
    """
    hub = world.hub
    journal: Any = hub._given_journal or hub._distribution.journal  # type: ignore[union-attr]

    class NoFollower:
        def update_appended(self, entry: object) -> None:
            pass

    journal._follower = NoFollower()
    world.publish(*texts)
    journal._follower = hub._distribution
    hub._distribution.updates_missed(journal.head)  # type: ignore[union-attr]


class WireTests:
    def test_page_is_read_in_pieces(self, plain: Wire) -> None:
        """
        A client that reads a replay in small pieces gets every update whole.
        """
        world = World(plain)
        (first,) = world.publish("first")
        texts = [f"{number} {'x' * 3000}" for number in range(60)]
        world.publish(*texts)
        opened = world.open(headers={"Last-Event-ID": first})
        opened.client.pump()
        opened.stop_reading()
        world.hub.subscribe(opened.channel, "news")
        for _ in range(100):
            opened.client.read_some(1777)
        opened.read_on()
        assert opened.texts == texts
        world.end()
