"""
Snapshots: the program's state before the changes, its failures, its limits, and what it may return.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from tests.fakes import Wire
from tests.hub.fakes import Member, ScriptedJournal, World
from txsse import Access, JournalFailed, Limits, ServerSentEvent, SnapshotRequest, SSEChannel, UpgradeRefused
from txsse.errors import CloseReason
from txsse.hub.replay import Replay


def texts(*data: str) -> Callable[[SnapshotRequest], list[str]]:
    """
    Return a snapshot of these texts.
    """
    return lambda request: list(data)


async def several(*data: str) -> AsyncIterator[str]:
    """
    Iterate over texts.
    """
    for text in data:
        yield text


async def awaited(result: Any) -> Any:
    """
    Return a value from a coroutine.
    """
    return result


def status(world: World, member: Member) -> int:
    """
    Return the status of a response, and check that it opened no stream.
    """
    world.reactor.advance(0)
    member.client.pump()
    assert member.opened is None or member.client.status == 200
    return member.client.status


def opened(world: World, member: Member, seconds: float = 0.0) -> Member:
    """
    Wait until a stream has opened.
    """
    world.reactor.advance(seconds)
    if member.opened is None:
        member.opened = world.channels[-1]
    return member


class EventsTests:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: ["a", b"b", ServerSentEvent("c", "kind")],
            lambda: iter(["a", "b", "c"]),
            lambda: (text for text in "abc"),
            lambda: several("a", "b", "c"),
            lambda: succeed(["a", "b", "c"]),
            lambda: awaited(["a", "b", "c"]),
            lambda: awaited(several("a", "b", "c")),
        ],
        ids=["list", "iterator", "generator", "async", "deferred", "coroutine", "coroutine-async"],
    )
    def test_kinds(self, any_world: World, make: Callable[[], Any]) -> None:
        """
        A snapshot is an iterable of events, an asynchronous one, or an awaitable of either.
        """
        world = any_world
        world.publish("before")
        member = opened(world, world.join(snapshot=lambda request: make()))
        world.publish("after", id="after")
        assert member.texts == ["a", "b", "c", "after"]
        assert [event.id for event in member.events] == ["", "", "", "after"]

    @pytest.mark.parametrize("make", [lambda: "one", lambda: awaited(b"one"), lambda: ServerSentEvent("one")])
    def test_single(self, world: World, make: Callable[[], Any]) -> None:
        """
        A single event is a snapshot, too.
        """
        assert opened(world, world.join(snapshot=lambda request: make())).texts == ["one"]

    def test_empty(self, world: World) -> None:
        """
        After an empty snapshot, the client still gets an ID.
        """
        world.publish("before", id="before")
        member = opened(world, world.join(snapshot=texts()))
        assert member.texts == [] and member.last_event_id == "before"

    def test_request(self, world: World) -> None:
        """
        The program learns the subscriber's topics, grants, key, context, request and position.
        """
        world.publish("before", id="before")
        asked: list[SnapshotRequest] = []

        def snapshot(request: SnapshotRequest) -> list[str]:
            asked.append(request)
            return []

        context = object()
        rule = Access(["a", "b"], "b", key="me", context=context)
        world.join(lambda request: rule, snapshot=snapshot, path="/?page=1")
        (request,) = asked
        assert (list(request.topics), list(request.private)) == (["a", "b"], ["b"])
        assert (request.key, request.context, request.resume_id) == ("me", context, "before")
        assert request.request.args == {b"page": [b"1"]}
        assert "'me'" not in repr(request)

    def test_with_retained_updates(self, world: World) -> None:
        """
        Retained updates are sent before the snapshot.
        """
        world.publish("retained", retain="a")
        assert opened(world, world.join(snapshot=texts("snapshot"))).texts == ["retained", "snapshot"]

    def test_large(self, world: World) -> None:
        """
        A snapshot of any size is sent, as fast as its client reads.
        """
        made = 0

        def snapshot(request: SnapshotRequest) -> Iterator[str]:
            nonlocal made
            for _ in range(1000):
                made += 1
                yield "x" * 10_000

        member = opened(world, world.join(snapshot=snapshot))
        member.stop_reading()
        world.reactor.advance(10)
        before = made
        world.reactor.advance(10)
        assert made == before < 1000 or made == 1000
        member.read_on()
        for _ in range(200):
            world.reactor.advance(0.1)
            member.client.pump()
        assert len(member.texts) == 1000

    def test_position_is_fixed_first(self, world: World) -> None:
        """
        An update that is published while the snapshot is made comes after it.
        """
        made: Deferred[list[str]] = Deferred()
        member = world.join(snapshot=lambda request: made)
        world.publish("1", id="1")
        assert member.client.status == 0
        made.callback(["state"])
        world.publish("2", id="2")
        assert opened(world, member).texts == ["state", "1", "2"]

    def test_between_its_parts(self, world: World) -> None:
        """
        Updates that are published while the snapshot is sent come after it.
        """

        async def snapshot() -> AsyncIterator[str]:
            yield "a" * 70_000
            await deferLater(world.reactor, 1)
            yield "b"

        member = opened(world, world.join(snapshot=lambda request: snapshot()))
        world.publish("1", id="1")
        world.reactor.advance(0.5)
        assert [text[0] for text in member.texts] == ["a"]
        world.reactor.advance(1)
        assert [(event.data[0], event.id) for event in member.events] == [("a", ""), ("b", ""), ("1", "1")]

    def test_head_request(self, world: World) -> None:
        """
        A HEAD request makes no snapshot.
        """
        asked: list[object] = []
        member = world.join(snapshot=asked.append, method="HEAD")
        assert status(world, member) == 200 and asked == []


class ChannelTests:
    def test_program_writes_meanwhile(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        If the channel does not take a part of the state, because the program has filled it, the part waits.
        """
        refused: list[int] = []
        offer = SSEChannel.offer

        def refuse_once(channel: SSEChannel, framed: Any) -> bool:
            if framed.size not in refused:
                refused.append(framed.size)
                return False
            return offer(channel, framed)

        monkeypatch.setattr(SSEChannel, "offer", refuse_once)
        world.publish("retained", retain="a")
        member = opened(world, world.join(snapshot=texts("a", "b")))
        world.reactor.advance(1)
        assert member.texts == ["retained", "a", "b"] and len(refused) >= 2

    def test_unsubscribed_meanwhile(self, world: World) -> None:
        """
        A channel that is unsubscribed gets no more of its snapshot.
        """
        closed: list[bool] = []

        def snapshot(request: SnapshotRequest) -> Iterator[str]:
            try:
                for _ in range(20):
                    yield "x" * 60_000
            finally:
                closed.append(True)

        resource = world.hub.resource("news", snapshot=snapshot)
        member = Member(world, world.wire.connect(resource))
        world.members.append(member)
        member.stop_reading()
        member.client.request("/")
        (subscriber,) = world.hub.subscribers
        subscriber.unsubscribe()
        member.read_on()
        world.reactor.advance(1)
        assert len(member.texts) < 20 and closed == [True]

    def test_in_slices(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        The reactor has its turns while a snapshot is sent to a fast client.
        """
        turns: list[Deferred[None]] = []

        def next_turn(replay: Replay) -> Deferred[None]:
            turns.append(Deferred())
            return turns[-1]

        monkeypatch.setattr(Replay, "next_turn", next_turn)
        member = world.join(snapshot=lambda request: ("x" * 70_000 for _ in range(3)))
        for number in range(1, 4):
            assert len(member.texts) == len(turns) == number
            turns[-1].callback(None)


class ResumeTests:
    def test_plain_resumption(self, world: World) -> None:
        """
        A client that resumes, or requests all held updates, is sent no snapshot.
        """
        world.publish("1", id="one")
        world.publish("2", id="two")
        for last_event_id, expected in (("one", ["2"]), ("earliest", ["1", "2"])):
            member = opened(world, world.join(snapshot=texts("no"), last_event_id=last_event_id))
            assert member.texts == expected

    def test_unknown_id(self, new_world: Callable[..., World]) -> None:
        """
        With an ID that is not held any more, a client gets stream-reset and the snapshot, then the updates
        after the snapshot, and an ID that names its position.
        """
        world = new_world(bounds={"max_count": 3})
        for text in ("1", "2", "3"):
            world.publish(text, id=text)
        member = opened(world, world.join(snapshot=texts("state"), last_event_id="gone"))
        world.publish("4", id="4")
        assert member.texts == ["stream-reset", "state", "4"]
        assert [event.id for event in member.events] == ["", "", "4"]
        assert member.client.headers["last-event-id"] == "3"
        assert world.hub.metrics().gaps == 1

    def test_reset_has_to_wait(
        self, new_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """
        If the channel does not take stream-reset, because the program has filled it, that waits, and comes
        once.
        """
        refused: list[bytes] = []
        offer = SSEChannel.offer

        def refuse_once(channel: SSEChannel, framed: Any) -> bool:
            if b"stream-reset" in framed.data and not refused:
                refused.append(framed.data)
                return False
            return offer(channel, framed)

        monkeypatch.setattr(SSEChannel, "offer", refuse_once)
        world = new_world(bounds={"max_count": 3})
        world.publish("1", retain="a")
        for snapshot, state in ((None, []), (texts("state"), ["state"])):
            refused.clear()
            member = opened(world, world.join(last_event_id="gone", snapshot=snapshot))
            world.reactor.advance(1)
            assert refused and member.texts == ["stream-reset", "1", *state]

    def test_slow_reader(self, new_world: Callable[..., World]) -> None:
        """
        A slow reader that has missed updates gets stream-reset and another snapshot, on the same stream.
        """
        world = new_world(bounds={"max_count": 2}, upgrader={"slow_policy": "replay", "max_buffer": 1000})
        numbers = iter("12")
        member = opened(world, world.join(snapshot=lambda request: [f"state {next(numbers)}"]))
        member.stop_reading()
        for number in range(20):
            world.publish("x" * 20_000, id=f"{number}")
            world.reactor.advance(0.1)
        member.read_on()
        world.reactor.advance(1)
        world.publish("later")
        assert member.texts[0] == "state 1"
        assert member.texts[-3:] == ["stream-reset", "state 2", "later"]

    def test_journal_unavailable(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        If the journal cannot be read when a client connects, its snapshot is made and sent afterwards.
        """
        journal = ScriptedJournal(reactor=plain.reactor)
        world = new_world(journal=journal)
        journal.errors["start"] = JournalFailed("fake", "is away")
        member = opened(world, world.join(snapshot=texts("state")))
        assert member.texts == [] and member.client.status == 200
        journal.errors.clear()
        world.reactor.advance(5)
        world.publish("later")
        assert member.texts == ["state", "later"]


class FailureTests:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: 1 / 0,
            lambda: fail(ZeroDivisionError()),
            lambda: awaited(None),
            lambda: 7,
            lambda: {"id": 7},
            lambda: [object()],
            lambda: [b"\xff"],
            lambda: [ServerSentEvent("a", id="1")],
            lambda: several("a", "\ud800"),
            lambda: fail(CancelledError()),
        ],
    )
    def test_before_the_stream(self, world: World, make: Callable[[], Any], failures: list[LogEvent]) -> None:
        """
        If a snapshot fails before the stream opens, the response is 503, with a time to retry, and the error
        is logged.
        """
        member = world.join(snapshot=lambda request: make())
        assert status(world, member) == 503
        assert member.client.headers["retry-after"] == "5"
        assert b"the state cannot be read" in member.client.body
        assert [event["log_format"] for event in failures] == ["the snapshot for {request} could not be made"]
        assert world.hub.subscribers.total == 0

    def test_refusal(self, world: World) -> None:
        """
        The program may refuse the request.
        """

        def snapshot(request: SnapshotRequest) -> Any:
            raise UpgradeRefused("no such device", status=404)

        member = world.join(snapshot=snapshot)
        assert status(world, member) == 404 and b"no such device" in member.client.body

    def test_later(self, world: World, failures: list[LogEvent]) -> None:
        """
        If a snapshot fails after the stream has opened, the stream is closed, and its client has no ID.
        """

        async def snapshot() -> AsyncIterator[str]:
            yield "a" * 70_000
            await deferLater(world.reactor, 1)
            raise ZeroDivisionError

        member = opened(world, world.join(snapshot=lambda request: snapshot()))
        assert len(member.texts) == 1
        world.reactor.advance(1)
        assert not member.channel.is_open
        assert world.hub.metrics().failures == 1
        assert member.last_event_id == ""
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

    def test_cancelled_by_the_program(self, world: World) -> None:
        """
        A CancelledError of the program is a failure like any other, while its client is connected.
        """

        async def snapshot() -> AsyncIterator[str]:
            yield "a" * 70_000
            await deferLater(world.reactor, 1)
            raise CancelledError

        member = opened(world, world.join(snapshot=lambda request: snapshot()))
        world.reactor.advance(1)
        assert not member.channel.is_open and world.hub.metrics().failures == 1

    def test_cancelled_by_the_program_after_a_gap(self, new_world: Callable[..., World]) -> None:
        """
        A CancelledError of the program in the snapshot after a gap ends the stream as a failure.
        """
        world = new_world(bounds={"max_count": 2}, upgrader={"slow_policy": "replay", "max_buffer": 1000})
        made: Iterator[Any] = iter([["state"], fail(CancelledError())])
        member = opened(world, world.join(snapshot=lambda request: next(made)))
        member.stop_reading()
        for number in range(20):
            world.publish("x" * 20_000, id=f"{number}")
            world.reactor.advance(0.1)
        member.read_on()
        world.reactor.advance(1)
        assert not member.channel.is_open and world.hub.metrics().failures == 1

    def test_never_ends(self, world: World) -> None:
        """
        A snapshot that never comes is cancelled at its time-out, and the response is 503.
        """
        cancelled: list[object] = []
        never: Deferred[list[str]] = Deferred(cancelled.append)
        member = world.join(snapshot=lambda request: never, snapshot_timeout=5)
        world.reactor.advance(4.9)
        assert member.client.status == 0
        world.reactor.advance(0.2)
        assert status(world, member) == 503 and cancelled == [never]

    def test_ignores_the_cancellation(self, world: World) -> None:
        """
        A program that ignores the cancellation does not keep the client or the slot.
        """

        async def stubborn() -> list[str]:
            while True:
                try:
                    await deferLater(world.reactor, 1000)
                except CancelledError:
                    continue
                return []

        made = iter([stubborn(), awaited(["a"])])
        resource = world.hub.resource(
            "news", snapshot=lambda request: next(made), snapshot_timeout=5, max_snapshots=1
        )
        first, second = (Member(world, world.wire.connect(resource)) for _ in range(2))
        world.members += [first, second]
        first.client.request("/")
        world.reactor.advance(5)
        assert status(world, first) == 503
        second.client.request("/")
        assert second.texts == ["a"]
        world.reactor.advance(2000)

    def test_fails_after_the_time_out(self, world: World, failures: list[LogEvent]) -> None:
        """
        An error of a program that was cancelled is logged.
        """

        async def snapshot() -> list[str]:
            try:
                await deferLater(world.reactor, 1000)
            finally:
                raise ZeroDivisionError

        member = world.join(snapshot=lambda request: snapshot(), snapshot_timeout=5)
        world.reactor.advance(5)
        assert status(world, member) == 503
        assert {event["log_format"] for event in failures} == {
            "a snapshot that took too long has failed",
            "the snapshot for {request} could not be made",
        }

    def test_cannot_be_closed(self, world: World, failures: list[LogEvent]) -> None:
        """
        An error of the program while its iterator is closed is logged.
        """

        def snapshot(request: SnapshotRequest) -> Iterator[str]:
            try:
                for _ in range(20):
                    yield "x" * 70_000
            finally:
                raise ZeroDivisionError

        resource = world.hub.resource("news", snapshot=snapshot)
        member = Member(world, world.wire.connect(resource))
        member.stop_reading()
        member.client.request("/")
        member.leave()
        world.reactor.advance(1)
        assert [event["log_format"] for event in failures] == ["a snapshot could not be closed"]

    def test_sends_for_ever(self, world: World) -> None:
        """
        A snapshot without an end is cut off when the program has taken its time, and its iterator is closed.
        """
        closed: list[bool] = []

        def for_ever(request: SnapshotRequest) -> Iterator[str]:
            try:
                while True:
                    world.reactor.rightNow += 0.005
                    yield "x" * 1000
            finally:
                closed.append(True)

        member = world.join(snapshot=for_ever, snapshot_timeout=2)
        member = opened(world, member)
        for _ in range(500):
            member.client.pump()
            world.reactor.advance(0)
        assert not member.channel.is_open and closed == [True]
        assert 300 < len(member.texts) < 500

    def test_client_reads_slowly(self, world: World) -> None:
        """
        The time that a client takes to read does not count.
        """
        member = opened(
            world, world.join(snapshot=lambda request: ("x" * 60_000 for _ in range(10)), snapshot_timeout=2)
        )
        member.stop_reading()
        world.reactor.advance(1000)
        member.read_on()
        world.reactor.advance(1)
        assert len(member.texts) == 10 and member.channel.is_open

    def test_client_disconnects_before(self, world: World) -> None:
        """
        When a client disconnects before its snapshot is there, the program's work is cancelled.
        """
        cancelled: list[object] = []
        never: Deferred[list[str]] = Deferred(cancelled.append)
        member = world.join(snapshot=lambda request: never)
        member.leave()
        assert cancelled == [never] and world.hub.subscribers.total == 0

    def test_client_disconnects_while_it_is_made(self, world: World, failures: list[LogEvent]) -> None:
        """
        When a client disconnects while the program makes the next events, that is cancelled, and so is its
        wait for a slot: the slot is free at once for others.
        """
        cancelled: list[object] = []
        closed: list[bool] = []

        async def snapshot() -> AsyncIterator[str]:
            try:
                yield "x" * 70_000
                await Deferred(cancelled.append)
            finally:
                closed.append(True)

        resource = world.hub.resource("news", snapshot=lambda request: snapshot(), max_snapshots=1)
        members = [Member(world, world.wire.connect(resource)) for _ in range(3)]
        members[0].client.request("/")
        assert len(members[0].texts) == 1
        members[0].leave()
        assert len(cancelled) == 1 and closed == [True]
        members[1].client.request("/")
        assert len(members[1].texts) == 1
        members[2].client.request("/")
        members[1].leave()
        assert len(cancelled) == 2 and len(members[2].texts) == 1
        members[2].leave()
        assert len(closed) == 3 and failures == []
        assert world.hub.metrics().failures == 0

    def test_disconnects_and_ignores_the_cancellation(self, world: World, failures: list[LogEvent]) -> None:
        """
        A program that goes on after its client has disconnected is not asked for more, and its iterator is
        closed when it yields.
        """
        closed: list[bool] = []

        async def stubborn() -> AsyncIterator[str]:
            try:
                while True:
                    try:
                        await deferLater(world.reactor, 20)
                    except CancelledError:
                        await deferLater(world.reactor, 40)
                    yield "x"
            finally:
                closed.append(True)

        member = world.join(snapshot=lambda request: stubborn())
        member.leave()
        world.reactor.advance(31)
        assert closed == []
        world.reactor.advance(20)
        assert closed == [True] and failures == []

    def test_client_disconnects_later(self, world: World) -> None:
        """
        When a client disconnects while its snapshot is sent, the program's iterator is closed.
        """
        closed: list[bool] = []

        async def snapshot() -> AsyncIterator[str]:
            try:
                while True:
                    yield "x" * 70_000
                    await deferLater(world.reactor, 1)
            finally:
                closed.append(True)

        member = opened(world, world.join(snapshot=lambda request: snapshot()))
        world.reactor.advance(2)
        member.leave()
        world.reactor.advance(2)
        assert closed == [True]

    def test_access_expires_meanwhile(self, world: World) -> None:
        """
        If the access has expired when the snapshot is there, the request is refused, and the iterator closed.
        """
        closed: list[bool] = []

        def snapshot() -> Iterator[str]:
            try:
                yield "x" * 70_000
                yield "y"
            finally:
                closed.append(True)

        made: Deferred[Any] = Deferred()
        rule = Access("news", expires=5)
        member = world.join(lambda request: rule, snapshot=lambda request: made)
        world.reactor.advance(6)
        made.callback(snapshot())
        assert status(world, member) == 403 and closed == [True]

    def test_hub_stops_meanwhile(self, world: World) -> None:
        """
        If the hub is stopped while a snapshot is made, the client gets a stream that ends at once.
        """
        made: Deferred[list[str]] = Deferred()
        member = world.join(snapshot=lambda request: made)
        world.hub.stop()
        made.callback(["a"])
        assert status(world, member) == 200
        assert b"a\n" not in member.client.body and member.client.ended

    def test_hub_stops_while_it_never_comes(self, world: World) -> None:
        """
        A hub that is stopped answers the requests whose snapshots are being made, or wait for a slot.
        """
        cancelled: list[object] = []
        resource = world.hub.resource(
            "news", snapshot=lambda request: Deferred(cancelled.append), max_snapshots=1
        )
        members = [Member(world, world.wire.connect(resource)) for _ in range(2)]
        world.members += members
        for member in members:
            member.client.request("/")
        world.hub.stop()
        assert [status(world, member) for member in members] == [200, 200]
        assert all(member.client.ended for member in members) and cancelled

    @pytest.mark.parametrize("topics", ["b", "*"])
    def test_revoked_before(self, world: World, topics: str) -> None:
        """
        If topics are revoked while the snapshot is made, it is not sent, and the client gets a stream that
        ends at once, to reconnect.
        """
        made: Deferred[list[str]] = Deferred()
        rule = Access(["a", "b"], ["a", "b"], key="me")
        member = world.join(lambda request: rule, snapshot=lambda request: made)
        world.hub.revoke("me", topics)
        made.callback(["secret of b"])
        assert status(world, member) == 200 and member.client.ended
        assert b"secret" not in member.client.body

    @pytest.mark.parametrize("take", ["topics", "grants"])
    def test_revoked_later(self, world: World, take: str) -> None:
        """
        If topics or grants are taken while the snapshot is sent, no more of it is, and the stream ends.
        """

        async def snapshot() -> AsyncIterator[str]:
            yield "first " + "x" * 70_000
            await deferLater(world.reactor, 1)
            yield "secret of b"

        rule = Access(["a", "b"], ["a", "b"], key="me")
        member = opened(world, world.join(lambda request: rule, snapshot=lambda request: snapshot()))
        (subscriber,) = world.hub.subscribers
        if take == "topics":
            world.hub.revoke("me", "b")
        else:
            subscriber.change(["a", "b"], private="a")
        world.reactor.advance(2)
        assert len(member.texts) == 1
        assert member.channel.close_reason is CloseReason.DISCONNECTED
        assert world.hub.metrics().failures == 0

    def test_gained_later(self, world: World) -> None:
        """
        A subscriber that gains a topic while its snapshot is sent gets the rest of the snapshot.
        """

        async def snapshot() -> AsyncIterator[str]:
            yield "first " + "x" * 70_000
            await deferLater(world.reactor, 1)
            yield "second"

        member = opened(world, world.join("a", snapshot=lambda request: snapshot()))
        (subscriber,) = world.hub.subscribers
        subscriber.change(["a", "b"])
        world.reactor.advance(2)
        assert [text.split(" ")[0] for text in member.texts] == ["first", "second"]

    def test_client_disconnects_before_a_later_snapshot(self, new_world: Callable[..., World]) -> None:
        """
        When a client disconnects while the snapshot after a gap is made, the program's work is cancelled, and
        the slot is free.
        """
        world = new_world(bounds={"max_count": 2}, upgrader={"slow_policy": "replay", "max_buffer": 1000})
        cancelled: list[object] = []
        made: Iterator[Any] = iter([["state"], Deferred(cancelled.append), ["other"]])
        resource = world.hub.resource("news", snapshot=lambda request: next(made), max_snapshots=1)
        member, other = (Member(world, world.wire.connect(resource)) for _ in range(2))
        world.members += [member, other]
        member.client.request("/")
        member.stop_reading()
        for number in range(20):
            world.publish("x" * 20_000, id=f"{number}")
            world.reactor.advance(0.1)
        member.read_on()
        world.reactor.advance(0.1)
        member.leave()
        world.reactor.advance(0.1)
        assert len(cancelled) == 1 and world.hub.metrics().failures == 0
        other.client.request("/")
        assert other.texts == ["other"]

    def test_limit_of_streams_reached_meanwhile(self, new_world: Callable[..., World]) -> None:
        """
        If no further stream may open when the snapshot is there, its iterator is closed.
        """
        world = new_world(upgrader={"limits": Limits(channels=1)})
        made: Deferred[list[str]] = Deferred()
        member = world.join(snapshot=lambda request: made)
        world.join()
        made.callback(["a"])
        assert status(world, member) == 503


class SlotTests:
    def test_at_once(self, world: World) -> None:
        """
        At most max_snapshots are made at once; further clients wait, and their positions are fixed when their
        turns come.
        """
        made: list[Deferred[list[str]]] = []

        def snapshot(request: SnapshotRequest) -> Deferred[list[str]]:
            made.append(Deferred())
            return made[-1]

        resource = world.hub.resource("news", snapshot=snapshot, max_snapshots=2)
        members = [Member(world, world.wire.connect(resource)) for _ in range(3)]
        world.members += members
        for member in members:
            member.client.request("/")
        assert len(made) == 2
        world.publish("meanwhile")
        made[0].callback(["a"])
        assert len(made) == 3
        made[1].callback(["b"])
        made[2].callback(["c"])
        assert [member.texts for member in members] == [["a", "meanwhile"], ["b", "meanwhile"], ["c"]]

    def test_no_slot(self, world: World) -> None:
        """
        A client that gets no turn in time gets 503.
        """
        resource = world.hub.resource(
            "news", snapshot=lambda request: Deferred(), max_snapshots=1, snapshot_timeout=5
        )
        members = [Member(world, world.wire.connect(resource)) for _ in range(3)]
        world.members += members
        for member in members:
            member.client.request("/")
            world.reactor.advance(0.1)
        statuses: list[int] = []
        for seconds in (4.7, 0.2, 5):
            world.reactor.advance(seconds)
            for member in members:
                member.client.pump()
            statuses.append(sum(member.client.status == 503 for member in members))
        # The first one has taken its time; the last one has waited as long; and then the second one.
        assert statuses == [1, 2, 3]

    def test_stalled_clients(self, world: World) -> None:
        """
        Clients that do not read have no slot, so others get their snapshots.
        """
        resource = world.hub.resource(
            "news", snapshot=lambda request: ("x" * 60_000 for _ in range(20)), max_snapshots=1
        )
        stalled, reading = (Member(world, world.wire.connect(resource)) for _ in range(2))
        world.members += [stalled, reading]
        stalled.stop_reading()
        stalled.client.request("/")
        world.reactor.advance(1)
        reading.client.request("/")
        for _ in range(100):
            world.reactor.advance(0.1)
            reading.client.pump()
        assert len(reading.texts) == 20

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"snapshot": 7}, TypeError, "snapshot must be callable"),
            ({"max_snapshots": 0}, ValueError, "max_snapshots must be at least 1"),
            ({"max_snapshots": 1.5}, TypeError, "max_snapshots must be a whole number"),
            ({"snapshot_timeout": 0}, ValueError, "snapshot_timeout must be a positive number"),
            ({"snapshot_timeout": float("inf")}, ValueError, "snapshot_timeout must be a positive number"),
            ({"snapshot_timeout": "1"}, TypeError, "snapshot_timeout must be a number of seconds"),
        ],
    )
    def test_invalid(self, world: World, options: Any, error: type[Exception], message: str) -> None:
        """
        Invalid arguments are refused when the resource is made.
        """
        with pytest.raises(error, match=message):
            world.hub.resource("news", **{"snapshot": texts(), **options})
