"""
The hub's public API: publishing, subscribing, journals, counts, threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from math import inf
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import LogEvent
from zope.interface import implementer_only

from tests.fakes import FakeReactor, Wire
from tests.hub.fakes import Heavy, Prefix, ScriptedJournal, World, lost, outcome_of, result_of, turn
from tests.journal.journals import Follower
from txsse import (
    Access,
    CloseReason,
    EventStreamParser,
    Hub,
    HubStopped,
    IJournal,
    InvalidField,
    JournalFailed,
    MemoryJournal,
    NotRetained,
    RetainedFull,
    RetainUnsupported,
    ServerSentEvent,
    TooManyPatterns,
    TooManyTopics,
    Update,
    UpdateTooLarge,
    Upgrader,
)
from txsse.hub.metrics import FANOUT_BUCKETS, Counters
from txsse.journal.cluster import IClusterListener, NoCluster
from txsse.journal.page import Entry
from txsse.journal.retained import Retained
from txsse.journal.retention import Retention


@pytest.fixture
def scripted(plain: Wire) -> Iterator[World]:
    """
    Return a hub whose journal answers on command.
    """
    made = World(plain, journal=ScriptedJournal(reactor=plain.reactor))
    yield made
    made.end()


def journal_of(world: World) -> ScriptedJournal:
    journal = world.hub._given_journal or world.hub._distribution.journal  # type: ignore[union-attr]
    assert isinstance(journal, ScriptedJournal)
    return journal


class OptionsTests:
    @pytest.mark.parametrize("name", ["max_update_size", "max_topics", "max_retained_bytes_per_stream"])
    @pytest.mark.parametrize("limit", [0, -1])
    def test_limit_that_allows_nothing(self, name: str, limit: int) -> None:
        """
        A limit below 1 is refused, and the error names it.
        """
        options: dict[str, Any] = {name: limit}
        with pytest.raises(ValueError, match=f"{name} must be at least 1, not {limit}"):
            Hub(**options)

    def test_smallest_limits(self) -> None:
        """
        A limit of 1 is accepted.
        """
        Hub(max_update_size=1, max_topics=1)

    def test_reactor_of_the_upgrader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub without a reactor, and its journal, use the upgrader's, and do not fetch the global one.
        """

        def fetch() -> FakeReactor:
            raise AssertionError("the global reactor")

        monkeypatch.setattr("txsse.server.upgrade.global_reactor", fetch)
        monkeypatch.setattr("txsse.journal.memory.global_reactor", fetch)
        reactor = FakeReactor()
        reactor.advance(1000)
        hub = Hub(upgrader=Upgrader(reactor=reactor))
        made = result_of(hub.publish("news", "x"))
        assert int(made[:14], 16) // 10**6 == 1000
        reactor.run_soon()

    def test_global_reactor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        A hub without a reactor and an upgrader fetches the global reactor at its first use, not before.
        """
        reactor = FakeReactor()
        reactor.advance(1000)
        fetched: list[None] = []

        def fetch() -> FakeReactor:
            fetched.append(None)
            return reactor

        monkeypatch.setattr("txsse.server.upgrade.global_reactor", fetch)
        monkeypatch.setattr("txsse.journal.memory.global_reactor", fetch)
        hub = Hub()
        hub.resource("news")
        hub.metrics()
        assert hub.subscribers.total == 0
        assert fetched == []
        made = result_of(hub.publish("news", "x"))
        assert fetched != []
        assert int(made[:14], 16) // 10**6 == 1000
        reactor.run_soon()

    def test_own_upgrader(self) -> None:
        """
        The hub's resource uses the given upgrader, or else a default one.
        """
        upgrader = Upgrader()
        assert Hub(upgrader=upgrader).upgrader is upgrader
        assert Hub(upgrader=upgrader).resource("x")._upgrader is upgrader
        assert isinstance(Hub().upgrader, Upgrader)

    def test_without_an_upgrader(self, plain: Wire) -> None:
        """
        The default upgrader has the hub's reactor.
        """
        hub = Hub(reactor=plain.reactor)
        assert hub.upgrader.reactor is plain.reactor


class PublishTests:
    def test_id(self, world: World) -> None:
        """
        Generated IDs are unique and sort in the order of publication; publish() returns them, and clients
        receive them.
        """
        member = world.join()
        ids = world.publish("a", "b", "c")
        assert ids == sorted(set(ids))
        assert [event.id for event in member.events] == ids

    def test_event_without_an_id(self, world: World) -> None:
        """
        An event that was parsed from a stream without IDs is published with a generated ID.
        """
        member = world.join()
        (event,) = EventStreamParser().feed(b"data: x\n\n")
        world.publish(event.data, event=event.event, id=event.id)
        assert member.texts == ["x"]
        assert member.last_event_id

    def test_all_fields(self, world: World) -> None:
        """
        Clients receive the data, the type, the ID and the reconnection time of a published event.
        """
        member = world.join()
        assert world.publish("a\nb", event="kind", id="7", retry=1.5) == ["7"]
        assert member.events == [ServerSentEvent("a\nb", "kind", "7", 1.5)]
        assert member.retry == 1.5
        assert member.client.body.endswith(b"retry: 1500\nid: 7\nevent: kind\ndata: a\ndata: b\n\n")

    def test_bytes(self, world: World) -> None:
        """
        Data may be given as UTF-8 bytes; other bytes are refused.
        """
        member = world.join()
        result_of(world.hub.publish("news", "ü".encode()))
        assert member.texts == ["ü"]
        with pytest.raises(InvalidField):
            world.hub.publish("news", b"\xff")

    @pytest.mark.parametrize(
        ("topics", "options"),
        [
            ("*", {}),
            ([], {}),
            ("news", {"id": ""}),
            ("news", {"id": "earliest"}),
            ("news", {"id": "a\nb"}),
            ("news", {"event": "a\nb"}),
            ("news", {"retry": -1}),
        ],
    )
    def test_invalid_fields(self, world: World, topics: Any, options: dict[str, Any]) -> None:
        """
        Invalid topics and fields are refused at once, and nothing is recorded.
        """
        with pytest.raises(InvalidField):
            world.hub.publish(topics, "x", **options)
        assert world.hub.metrics().published == 0

    def test_same_id_again(self, world: World) -> None:
        """
        An update that is equal to the newest one with its ID is not sent again; one that differs is. Both
        return the ID.
        """
        member = world.join()
        assert world.publish("a", id="7") == world.publish("a", id="7") == ["7"]
        assert member.texts == ["a"]
        assert world.publish("b", id="7") == world.publish("a", id="7") == ["7"]
        assert member.texts == ["a", "b", "a"]
        assert world.hub.metrics().published == 3

    def test_too_large(self, new_world: Callable[..., World]) -> None:
        """
        An update of one byte more than max_update_size is refused, and the error has both numbers.
        """
        world = new_world(max_update_size=100)
        fits = "x" * (100 - len("id: 7\ndata: \n\n"))
        world.publish(fits, id="7")
        with pytest.raises(UpdateTooLarge) as caught:
            world.hub.publish("news", fits + "x", id="8")
        assert (caught.value.size, caught.value.limit) == (101, 100)
        assert str(caught.value) == "the update takes 101 bytes; max_update_size is 100"
        assert world.hub.metrics().published == 1

    def test_default_max_update_size(self, world: World) -> None:
        """
        The default max_update_size is 1 MiB.
        """
        with pytest.raises(UpdateTooLarge) as caught:
            world.hub.publish("news", "x" * 2**20)
        assert caught.value.limit == 2**20

    def test_publish_update(self, world: World) -> None:
        """
        publish_update() publishes an Update object, subject to the same size limit.
        """
        member = world.join()
        update = Update(["news", "sport"], ServerSentEvent("a", id="7"))
        assert result_of(world.hub.publish_update(update)) == "7"
        assert member.texts == ["a"]
        with pytest.raises(UpdateTooLarge):
            world.hub.publish_update(Update("news", ServerSentEvent("x" * 2**20, id="8")))

    def test_publish_update_first(self, new_world: Callable[..., World]) -> None:
        """
        publish_update() may be the first use of a hub.
        """
        world = new_world()
        update = Update("news", ServerSentEvent("a", id="7"))
        assert result_of(world.hub.publish_update(update)) == "7"
        assert world.join(last_event_id="earliest").texts == ["a"]

    def test_private(self, world: World) -> None:
        """
        A subscriber without a grant does not receive a private update.
        """
        member = world.join()
        world.publish("secret", private=True)
        world.publish("public")
        assert member.texts == ["public"]

    def test_from_a_callback(self, world: World) -> None:
        """
        An update that the callback of another publication publishes keeps its place in the order.
        """
        member = world.join()
        world.hub.publish("news", "a").addCallback(lambda _: world.hub.publish("news", "b"))
        world.publish("c")
        assert member.texts == ["a", "b", "c"]


@implementer_only(IJournal)
class ForgetfulJournal(MemoryJournal):
    """
    A journal that retains no updates.
    """


class RetainTests:
    def test_retained(self, world: World) -> None:
        """
        publish(retain=) retains the newest update of each topic and key, without an owner, and subscribers
        receive it as any other.
        """
        member = world.join()
        world.publish("a", "b", retain="k")
        world.publish("c", topics=["news", "sport"], retain="l", private=True, event="kind", retry=1.5)
        assert member.texts == ["a", "b"]
        retained = world.hub.retained
        assert retained is not None
        assert retained.find("news", "k") == Retained(2, ("news",), False, "k", None, inf, b"data: b\n\n")
        assert retained.find("sport", "l") == Retained(
            3, ("news", "sport"), True, "l", None, inf, b"retry: 1500\nevent: kind\ndata: c\n\n"
        )
        assert (world.hub.metrics().retained, world.hub.metrics().retained_bytes) == (3, retained.size)

    def test_time(self, world: World) -> None:
        """
        publish(retain_for=) retains an update for a number of seconds, also in the metrics.
        """
        world.publish("a", retain="k", retain_for=60)
        world.reactor.advance(59.5)
        assert world.join().texts == ["a"]
        world.reactor.advance(0.5)
        assert world.hub.metrics().retained == 0
        assert world.join().texts == []

    def test_unretain(self, world: World) -> None:
        """
        unretain() removes a key under its topics, notifies their subscribers, and returns the ID; the same
        call with the same ID is a no-op.
        """
        member, private = world.join(), world.join(Access("news", private="news"))
        world.publish("a", topics=["news", "sport"], retain="k")
        assert result_of(world.hub.unretain("news", "k", id="7")) == "7"
        assert result_of(world.hub.unretain("news", "k", id="7")) == "7"
        assert member.events[1:] == [ServerSentEvent("k", "unretain", "7")]
        retained = world.hub.retained
        assert retained is not None
        assert (retained.find("news", "k"), retained.count) == (None, 1)
        made = result_of(world.hub.unretain(["news", "sport"], "k", private=True))
        assert private.last_event_id == made
        assert len(member.events) == 2
        assert retained.count == 0

    def test_unretain_first(self, new_world: Callable[..., World]) -> None:
        """
        unretain() may be the first use of a hub, and fails, since nothing is retained.
        """
        world = new_world()
        with pytest.raises(NotRetained, match="no update with the key 'k' is retained under news"):
            result_of(world.hub.unretain("news", "k"))

    def test_not_retained(self, world: World) -> None:
        """
        The Deferred of unretain() fails with NotRetained if nothing is retained, and nothing is sent; the hub
        has no problem.
        """
        member = world.join()
        with pytest.raises(NotRetained) as caught:
            result_of(world.hub.unretain(["news", "sport"], "k"))
        assert (caught.value.topics, caught.value.key) == (("news", "sport"), "k")
        assert (member.texts, world.hub.metrics().published, world.hub.problem) == ([], 0, None)

    def test_full(self, new_world: Callable[..., World]) -> None:
        """
        The Deferred of publish() fails with RetainedFull if the journal has no room; nothing is sent, the hub
        has no problem, and what is retained can be replaced and removed.
        """
        world = new_world(bounds={"max_retained": 2})
        member = world.join()
        world.publish("1", retain="a")
        world.publish("2", retain="b")
        with pytest.raises(RetainedFull, match="no room for this one; unretain some"):
            world.publish("3", retain="c")
        assert (member.texts, world.hub.problem) == (["1", "2"], None)
        world.publish("4", retain="a")
        result_of(world.hub.unretain("news", "b"))
        world.publish("5", retain="c")
        world.publish("6")
        assert world.join().texts == ["4", "5"]

    @pytest.mark.slow
    def test_too_many_keys(self, new_world: Callable[..., World]) -> None:
        """
        A publisher that invents a key for each update is refused at the default limits with a clear error,
        and nothing that was retained is lost.
        """
        world = new_world()
        outcomes: list[Any] = []
        for number in range(100_000):
            world.hub.publish("news", "x", id=f"{number}", retain=f"{number}").addBoth(outcomes.append)
            if number % 1000 == 0:
                world.reactor.run_soon()
        refused = [each for each in outcomes if not isinstance(each, str)]
        accepted = len(outcomes) - len(refused)
        assert refused and {type(each.value) for each in refused} == {RetainedFull}
        assert outcomes[:accepted] == [f"{number}" for number in range(accepted)]
        metrics = world.hub.metrics()
        assert (metrics.retained, metrics.published, world.hub.problem) == (accepted, accepted, None)
        assert 60_000 < accepted and metrics.retained_bytes <= 2**26
        retained = world.hub.retained
        assert retained is not None
        assert all(retained.find("news", f"{number}") is not None for number in range(accepted))
        assert world.publish("again", retain="0")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"retain": ""}, InvalidField, "retain: a retained update needs a key that is not empty"),
            ({"retain": "a\nb"}, InvalidField, "retain: "),
            ({"retain": "x" * 2**20}, InvalidField, "retain: has more than 1024 bytes"),
            ({"retain": 7}, TypeError, "retain must be str, not int"),
            ({"retain": True}, TypeError, "retain must be str, not bool"),
            ({"retain": b"x"}, TypeError, "retain must be str, not bytes"),
            ({"retain_for": 60}, ValueError, "retain_for needs a key"),
            ({"retain": "x", "retain_for": 0}, ValueError, "retain_for must be a positive number of seconds"),
            ({"retain": "x", "retain_for": inf}, ValueError, "retain_for must be a positive number"),
            ({"retain": "x", "retain_for": 10**400}, ValueError, "retain_for must be a positive number"),
            ({"retain": "x", "retain_for": "60"}, TypeError, "retain_for must be a number of seconds"),
            ({"retain": "x", "retain_for": True}, TypeError, "retain_for must be a number of seconds"),
            ({"retain": "x", "event": "unretain"}, InvalidField, "removes a key, which must be its data"),
        ],
    )
    def test_invalid(
        self, world: World, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        """
        An invalid key or time is refused at once with an error that names the parameter, and nothing is
        recorded.
        """
        with pytest.raises(error, match=message) as caught:
            world.hub.publish("news", "data", **options)
        assert len(str(caught.value)) < 200
        assert (world.hub.metrics().published, world.hub.metrics().retained) == (0, 0)

    @pytest.mark.parametrize(
        ("key", "error", "message"),
        [
            ("", InvalidField, "retain: a retained update needs a key"),
            ("a\nb", InvalidField, "retain: "),
            ("x" * 2**20, InvalidField, "retain: has more than 1024 bytes"),
            (7, TypeError, "retain must be str, not int"),
            (None, TypeError, "retain must be str, not NoneType"),
        ],
    )
    def test_invalid_removal(self, world: World, key: Any, error: type[Exception], message: str) -> None:
        """
        An invalid key to remove is refused at once, with the error that retaining it has.
        """
        with pytest.raises(error, match=message):
            world.hub.unretain("news", key)
        with pytest.raises(InvalidField, match="stands for all topics"):
            world.hub.unretain("*", "k")
        with pytest.raises(InvalidField, match="id"):
            world.hub.unretain("news", "k", id="")

    def test_unsupported(self, new_world: Callable[..., World]) -> None:
        """
        A hub whose journal retains no updates refuses to retain and to remove at once, and publishes others.
        """
        world = new_world(journal=ForgetfulJournal(reactor=FakeReactor()))
        assert world.hub.retained is None
        for refuse in (
            lambda: world.hub.publish("news", "x", retain="k"),
            lambda: world.hub.unretain("news", "k"),
            lambda: world.hub.publish_update(
                Update("news", ServerSentEvent("x", id="1"), retention=Retention("k"))
            ),
        ):
            with pytest.raises(RetainUnsupported, match="does not retain updates; use one that provides"):
                refuse()
        assert world.publish("x", id="7") == ["7"]
        assert (world.hub.metrics().retained, world.hub.metrics().retained_bytes) == (0, 0)

    def test_stopped(self, world: World) -> None:
        """
        A hub that has stopped refuses to retain and to remove.
        """
        world.publish("a", retain="k")
        result_of(world.hub.stop())
        for refused in (world.hub.publish("news", "b", retain="k"), world.hub.unretain("news", "k")):
            with pytest.raises(HubStopped):
                result_of(refused)

    def test_slow_append(self, scripted: World) -> None:
        """
        A journal that refuses an update later fails the Deferred then, and the hub has no problem.
        """
        journal = journal_of(scripted)
        result_of(scripted.hub.start())
        journal.held.add("append")
        outcomes = [
            outcome_of(scripted.hub.unretain("news", "k")),
            outcome_of(scripted.hub.publish("news", "x", retain="k", id="7")),
        ]
        assert outcomes == [[], []]
        journal.release("append")
        assert [type(outcome[0]) for outcome in outcomes] == [NotRetained, str]
        assert scripted.hub.problem is None

    @pytest.mark.parametrize("limit", ["7", 1.5, True])
    def test_limit_of_wrong_type(self, limit: Any) -> None:
        """
        A limit of bytes that is not a whole number is refused.
        """
        with pytest.raises(TypeError, match="max_retained_bytes_per_stream must be a whole number"):
            Hub(max_retained_bytes_per_stream=limit)


class EphemeralTests:
    def test_in_order_with_updates(self, world: World) -> None:
        """
        Ephemeral events reach live subscribers in order with updates, and have no ID.
        """
        member, other = world.join(), world.join("sport")
        world.publish("a", id="1")
        world.hub.publish_ephemeral("news", "b", event="note")
        world.publish("c", id="2")
        world.hub.publish_ephemeral(["sport", "news"], b"d")
        assert member.texts == ["a", "b", "c", "d"]
        assert [event.event for event in member.events] == ["message", "note", "message", "message"]
        assert b"event: note\ndata: b\n\n" in member.client.body
        assert member.last_event_id == "2"
        assert other.texts == ["d"]

    def test_not_recorded(self, world: World) -> None:
        """
        A client that connects or resumes later does not receive an ephemeral event; it does not count as
        published.
        """
        (first,) = world.publish("a")
        listener = world.join()
        world.hub.publish_ephemeral("news", "b")
        world.reactor.run_soon()
        world.publish("c")
        world.reactor.run_soon()
        assert listener.texts == ["b", "c"]
        assert world.join(last_event_id=first).texts == ["c"]
        assert world.join(last_event_id="earliest").texts == ["a", "c"]
        assert world.hub.metrics().published == 2

    def test_ephemeral_event_first(self, new_world: Callable[..., World]) -> None:
        """
        publish_ephemeral() may be the first use of a hub.
        """
        world = new_world()
        world.hub.publish_ephemeral("news", "a")
        world.reactor.run_soon()
        assert world.hub.metrics().delivered == 0

    def test_slow_reader(self, world: World) -> None:
        """
        A slow reader misses ephemeral events, and no updates.
        """
        member = world.join()
        member.client.pump()
        member.stop_reading()
        for number in range(3):
            world.publish(f"{number}")
            world.reactor.run_soon()
            world.hub.publish_ephemeral("news", f"ephemeral {number}")
            world.reactor.run_soon()
        member.read_on()
        world.hub.publish_ephemeral("news", "last")
        world.publish("end")
        assert member.texts == ["0", "1", "2", "last", "end"]

    def test_slow_reader_refuses_an_ephemeral_event(self, world: World) -> None:
        """
        A client that cannot take an ephemeral event misses it, replays later updates, and receives no event
        twice.
        """
        member = world.join()
        world.publish("a")
        world.reactor.run_soon()
        member.stop_reading()
        world.hub.publish_ephemeral("news", "taken")
        world.reactor.run_soon()
        world.hub.publish_ephemeral("news", "refused")
        world.reactor.run_soon()
        world.publish("b")
        member.read_on()
        assert member.texts == ["a", "taken", "b"]

    def test_private(self, world: World) -> None:
        """
        A private ephemeral event reaches only the subscribers with a grant.
        """
        granted, public = world.join(Access("news", private="news")), world.join()
        world.hub.publish_ephemeral("news", "secret", private=True)
        assert (granted.texts, public.texts) == (["secret"], [])

    def test_invalid_fields(self, new_world: Callable[..., World]) -> None:
        """
        Invalid topics, invalid data and too large ephemeral events are refused at once.
        """
        world = new_world(max_update_size=20)
        member = world.join("*")
        for topics, data, error in (
            ("*", "x", InvalidField),
            ([], "x", InvalidField),
            ("news", b"\xff", InvalidField),
            ("news", "x" * (21 - len("data: \n\n")), UpdateTooLarge),
        ):
            with pytest.raises(error):
                world.hub.publish_ephemeral(topics, data)
        world.hub.publish_ephemeral("news", "x" * (20 - len("data: \n\n")))
        assert len(member.texts) == 1

    def test_stopped(self, world: World) -> None:
        """
        A hub that has stopped refuses ephemeral events.
        """
        result_of(world.hub.stop())
        with pytest.raises(HubStopped):
            world.hub.publish_ephemeral("news", "x")


class JournalTests:
    def test_slow_append(self, scripted: World) -> None:
        """
        The publisher's Deferred fires, and clients receive the update, when the journal has recorded it.
        """
        member = scripted.join()
        journal_of(scripted).held.add("append")
        outcome = outcome_of(scripted.hub.publish("news", "a", id="7"))
        assert member.texts == []
        assert outcome == []
        journal_of(scripted).release("append")
        assert outcome == ["7"]
        assert member.texts == ["a"]

    def test_failing_append(self, scripted: World) -> None:
        """
        The publisher receives the journal's error; subscribers stay connected, and receive later updates.
        """
        member = scripted.join()
        journal_of(scripted).errors["append"] = JournalFailed("x", "no journal")
        with pytest.raises(JournalFailed, match="no journal"):
            scripted.publish("lost")
        assert scripted.hub.problem is None
        del journal_of(scripted).errors["append"]
        scripted.publish("a")
        assert member.texts == ["a"]
        assert scripted.hub.metrics().published == 1

    @pytest.mark.parametrize("raises", [False, True])
    def test_append_that_fails_unexpectedly(
        self,
        scripted: World,
        failures: list[LogEvent],
        monkeypatch: pytest.MonkeyPatch,
        raises: bool,
    ) -> None:
        """
        An unexpected error of append() fails with JournalFailed, is the hub's problem until an update is
        recorded or for 30 s, and is logged a few times at most.
        """
        member = scripted.join()
        journal = journal_of(scripted)
        append = journal.append
        error = MemoryError()

        def failing(update: Update) -> Any:
            raise error

        def fail() -> None:
            if raises:
                monkeypatch.setattr(journal, "append", failing)
            else:
                journal.errors["append"] = error
            for _ in range(100):
                with pytest.raises(JournalFailed, match="in an unexpected way") as raised:
                    scripted.publish("lost")
                assert raised.value.uncertain
                assert raised.value.__cause__ is error
            assert scripted.hub.problem is raised.value
            monkeypatch.setattr(journal, "append", append)
            journal.errors.clear()

        fail()
        assert 1 <= len(failures) <= 5
        failures.clear()
        scripted.publish("a")
        assert member.texts == ["a"]
        assert scripted.hub.problem is None
        fail()
        scripted.reactor.advance(29)
        assert scripted.hub.problem is not None
        scripted.reactor.advance(2)
        assert scripted.hub.problem is None
        assert failures == []

    def test_problem_ends_when_an_update_is_recorded_later(
        self, scripted: World, failures: list[LogEvent]
    ) -> None:
        """
        After an unexpected error of the journal, the hub's problem ends when the journal has recorded an
        update that took some time.
        """
        journal = journal_of(scripted)
        scripted.join()
        journal.errors["append"] = MemoryError()
        with pytest.raises(JournalFailed):
            scripted.publish("lost")
        journal.errors.clear()
        journal.held.add("append")
        outcome = outcome_of(scripted.hub.publish("news", "a"))
        assert (outcome, scripted.hub.problem is None) == ([], False)
        journal.release("append")
        assert (len(outcome), scripted.hub.problem) == (1, None)
        assert len(failures) == 1

    def test_slow_start(self, scripted: World) -> None:
        """
        Updates that are published while the journal starts are recorded in order, after a single start.
        """
        journal = journal_of(scripted)
        journal.held.add("start")
        outcomes = [outcome_of(scripted.hub.publish("news", text, id=text)) for text in "abc"]
        started = outcome_of(scripted.hub.start())
        assert outcomes == [[], [], []]
        journal.release("start")
        assert outcomes == [["a"], ["b"], ["c"]]
        assert started == [None]
        assert journal.calls == ["start", "at", "append", "append", "append"]
        assert scripted.join(last_event_id="earliest").texts == ["a", "b", "c"]

    def test_failing_start(self, scripted: World, failures: list[LogEvent]) -> None:
        """
        All callers that wait for a failing start are notified, and it is logged; a later use starts the
        journal again.
        """
        journal = journal_of(scripted)
        journal.held.add("start")
        journal.errors["start"] = OSError("no journal")
        published, started = outcome_of(scripted.hub.publish("news", "a")), outcome_of(scripted.hub.start())
        journal.release("start")
        assert [type(error) for error in published + started] == [JournalFailed, OSError]
        assert {event["log_format"] for event in failures} == {
            "the journal did not start",
            "the journal has failed in an unexpected way",
        }
        with pytest.raises(OSError, match="no journal"):
            result_of(scripted.hub.start())
        del journal.errors["start"]
        assert result_of(scripted.hub.start()) is None
        scripted.publish("b")
        assert scripted.join(last_event_id="earliest").texts == ["b"]

    def test_subscribed_while_it_fails_to_start(self, scripted: World) -> None:
        """
        A channel that is subscribed while the journal fails to start stays open, and becomes live after it
        has started.
        """
        journal = journal_of(scripted)
        journal.errors["start"] = OSError("no journal")
        opened = scripted.open()
        subscriber = scripted.hub.subscribe(opened.channel, "news")
        scripted.reactor.advance(2.5)
        assert subscriber.is_replaying
        del journal.errors["start"]
        scripted.reactor.advance(1)
        scripted.reactor.run_soon()
        assert not subscriber.is_replaying
        scripted.publish("a")
        assert opened.texts == ["a"]

    def test_start(self, world: World) -> None:
        """
        start() may be called before any other use, and again.
        """
        assert result_of(world.hub.start()) is None
        assert result_of(world.hub.start()) is None

    def test_start_is_cancelled_by_one_of_two_callers(self, scripted: World) -> None:
        """
        If one of two callers cancels its start(), the other one is still notified.
        """
        journal_of(scripted).held.add("start")
        impatient, patient = scripted.hub.start(), outcome_of(scripted.hub.start())
        impatient.addErrback(lambda _: None)
        impatient.cancel()
        journal_of(scripted).release("start")
        assert patient == [None]

    def test_journal_with_updates(self, world: World) -> None:
        """
        A hub whose journal holds updates sends new clients only later ones, and others may resume from the
        old ones.
        """
        ids = world.publish("a", "b")
        journal = world.hub._given_journal or world.hub._distribution.journal  # type: ignore[union-attr]
        second = World(world.wire, journal=journal)
        member = second.join()
        place = member.last_event_id
        second.publish("c")
        assert member.texts == ["c"]
        assert second.join(last_event_id=place).texts == ["c"]
        assert second.join(last_event_id=ids[0]).texts == ["b", "c"]
        second.end()

    def test_appended_while_the_hub_starts(self, scripted: World) -> None:
        """
        If another node's update arrives while the hub starts, new clients are sent its ID, not that of an
        older one.
        """
        journal = journal_of(scripted)
        journal.held.add("at")
        scripted.hub.start()
        position_before = journal.head

        def late_answer() -> Deferred[Update | None]:
            return succeed(Update("news", ServerSentEvent("old", id="older")))

        waiting = journal._waiting[0]
        journal._waiting[0] = (waiting[0], waiting[1], late_answer)
        result_of(journal.append(Update("news", ServerSentEvent("a", id="newer"))))
        assert journal.head == position_before + 1
        journal.release("at")
        assert scripted.join().last_event_id == "newer"

    def test_updates_of_other_nodes(self, scripted: World) -> None:
        """
        Updates that other nodes append to the journal are sent to the subscribers of this node.
        """
        member = scripted.join()
        result_of(journal_of(scripted).append(Update("news", ServerSentEvent("a", id="7"))))
        assert member.texts == ["a"]
        assert scripted.hub.metrics().published == 1


class ClusterTests:
    def test_default(self, world: World, plain: Wire) -> None:
        """
        Without a cluster argument, a hub uses its journal's cluster, or a NoCluster.
        """
        assert isinstance(world.hub.cluster, NoCluster)
        journal = ScriptedJournal(reactor=plain.reactor)
        assert Hub(journal=journal).cluster is journal.cluster

    def test_given(self, new_world: Callable[..., World], plain: Wire) -> None:
        """
        A given cluster takes precedence; it is started after the journal, and stopped before it, even if that
        fails.
        """

        class Watching(NoCluster):
            def start(self, listener: IClusterListener) -> Deferred[None]:
                journal.calls.append("cluster.start")
                return super().start(listener)

            def stop(self) -> Deferred[None]:
                journal.calls.append("cluster.stop")
                return fail(OSError("no cluster"))

        journal = ScriptedJournal(reactor=plain.reactor)
        cluster = Watching(reactor=plain.reactor)
        world = new_world(journal=journal, cluster=cluster)
        assert world.hub.cluster is cluster
        result_of(world.hub.start())
        assert journal.calls[:2] == ["start", "cluster.start"]
        result_of(world.hub.stop())
        assert journal.calls[-2:] == ["cluster.stop", "stop"]

    def test_wrong_type(self) -> None:
        """
        A cluster that does not provide ICluster is refused.
        """
        with pytest.raises(TypeError, match="an object that provides ICluster"):
            Hub(cluster=object())  # type: ignore[arg-type]

    def test_broadcast(self, world: World) -> None:
        """
        A hub acknowledges cluster messages that it does not know.
        """
        result_of(world.hub.start())
        assert result_of(world.hub.cluster.broadcast("unknown")) == []


class SubscribeTests:
    def test_subscriber(self, world: World) -> None:
        """
        A subscribed channel receives the updates of its topics and grants that are published from then on.
        """
        opened = world.open()
        world.publish("a")
        subscriber = world.hub.subscribe(opened.channel, ["news", Prefix("sport/")], private="news")
        assert subscriber.channel is opened.channel
        assert opened.channel.watcher is subscriber
        assert subscriber.is_subscribed
        assert not subscriber.is_replaying
        world.publish("b", private=True)
        world.publish("c", topics="sport/1")
        world.publish("secret", topics="sport/1", private=True)
        assert opened.texts == ["b", "c"]

    def test_unsubscribe(self, world: World) -> None:
        """
        A channel that unsubscribes stays open, receives no updates, and can be subscribed again.
        """
        opened = world.open()
        subscriber = world.hub.subscribe(opened.channel, "news")
        world.publish("a")
        world.reactor.run_soon()
        subscriber.unsubscribe()
        assert world.hub.subscribers.total == 0
        world.publish("b")
        again = world.hub.subscribe(opened.channel, "sport")
        world.publish("c", topics=["news", "sport"])
        assert opened.texts == ["a", "c"]
        assert again.id != subscriber.id
        assert opened.channel.is_open
        assert world.hub.metrics().closes == {}

    def test_in_the_middle_of_a_turn(self, world: World) -> None:
        """
        A channel receives the updates that are published after it subscribes, also within the same turn.
        """
        opened = world.open()
        world.publish("a")
        world.hub.subscribe(opened.channel, "news")
        world.publish("b")
        other = world.open()
        world.hub.subscribe(other.channel, "news")
        world.publish("c")
        assert (opened.texts, other.texts) == (["b", "c"], ["c"])

    def test_twice(self, world: World) -> None:
        """
        A second subscription of a channel is refused.
        """
        opened = world.open()
        world.hub.subscribe(opened.channel, "news")
        with pytest.raises(ValueError, match="is subscribed already"):
            world.hub.subscribe(opened.channel, "sport")
        assert world.hub.subscribers.total == 1

    def test_closed_channel(self, world: World) -> None:
        """
        A closed channel is not subscribed, and the hub keeps nothing of it.
        """
        opened = world.open()
        opened.channel.close()
        subscriber = world.hub.subscribe(opened.channel, "news")
        assert not subscriber.is_subscribed
        assert world.hub.subscribers.total == 0
        assert world.hub.metrics().replaying == 0

    def test_too_many_topics(self, new_world: Callable[..., World]) -> None:
        """
        Topics and patterns count together towards max_topics, each once.
        """
        world = new_world(max_topics=2)
        opened = world.open()
        with pytest.raises(TooManyTopics) as caught:
            world.hub.subscribe(opened.channel, ["a", Prefix("b"), "*"])
        assert (caught.value.count, caught.value.limit) == (3, 2)
        assert opened.channel.watcher is None
        world.hub.subscribe(opened.channel, ["a", Prefix("b"), "a"])

    @pytest.mark.parametrize(
        ("topics", "private", "error"),
        [
            (["a", "b", "c"], (), TooManyTopics),
            ("a", [b"x"], TypeError),
            (5, (), TypeError),
            ([Heavy("x", 10_000_000)], (), TooManyPatterns),
        ],
    )
    def test_refused_after_another_subscription(
        self, new_world: Callable[..., World], topics: Any, private: Any, error: type[Exception]
    ) -> None:
        """
        If a channel's second subscription is refused, another attempt still continues where the first one
        ended.
        """
        world = new_world(max_topics=2)
        opened = world.open()
        subscriber = world.hub.subscribe(opened.channel, "news")
        world.publish("a")
        subscriber.unsubscribe()
        world.publish("b")
        for _ in range(2):
            with pytest.raises(error):
                world.hub.subscribe(opened.channel, topics, private=private)
            world.publish("c")
        assert opened.channel.is_open
        assert opened.channel.watcher is None
        world.hub.subscribe(opened.channel, "news")
        world.publish("d")
        assert opened.texts == ["a", "b", "c", "c", "d"]

    def test_default_max_topics(self, world: World) -> None:
        """
        The default max_topics is 100.
        """
        opened = world.open()
        with pytest.raises(TooManyTopics):
            world.hub.subscribe(opened.channel, [str(number) for number in range(101)])
        world.hub.subscribe(opened.channel, [str(number) for number in range(100)])

    def test_resumes(self, world: World) -> None:
        """
        A channel whose client sends a Last-Event-ID receives the updates that it missed first.
        """
        ids = world.publish("a", "b", "c")
        opened = world.open(headers={"Last-Event-ID": ids[0]})
        world.hub.subscribe(opened.channel, "news")
        assert opened.texts == ["b", "c"]

    def test_slow_reader_from_the_beginning(self, world: World) -> None:
        """
        A new client that is a slow reader is sent its resume ID when it has caught up, and misses no update.
        """
        opened = world.open()
        opened.client.pump()
        opened.stop_reading()
        opened.channel.send("x" * 100_000)
        world.reactor.run_soon()
        (before,) = world.publish("before")
        world.hub.subscribe(opened.channel, "news")
        world.publish("a")
        world.reactor.run_soon()
        assert world.hub.metrics().replaying == 1
        opened.read_on()
        assert [text[:1] for text in opened.texts] == ["x", "a"]
        assert f"id: {before}\n\n".encode() in opened.client.body

    def test_resume_id_of_a_new_client(self, world: World) -> None:
        """
        A new client is sent its resume ID at once, without an event.
        """
        (first,) = world.publish("a")
        opened = world.open()
        world.hub.subscribe(opened.channel, "news")
        opened.client.pump()
        assert opened.client.body == f"id: {first}\n\n".encode()

    @pytest.mark.parametrize("newest", [False, True])
    def test_id_of_a_private_update(self, world: World, newest: bool) -> None:
        """
        A client resumes after a private update whose ID it sends, whether it may receive that update or not.
        """
        world.publish("a")
        (secret,) = world.publish("secret", private=True)
        if not newest:
            world.publish("b")
        world.reactor.run_soon()
        after = [] if newest else ["b"]
        stranger = world.join(last_event_id=secret)
        friend = world.join(Access("news", private="news"), last_event_id=secret)
        other = world.join(Access("news", private="sport"), last_event_id=secret)
        world.reactor.run_soon()
        for member in (stranger, friend, other):
            assert member.texts == after
            assert member.client.headers["last-event-id"] == secret

    def test_id_that_several_updates_have(self, world: World) -> None:
        """
        A client resumes after the earliest update with its ID, even if the newest update has the same ID.
        """
        for data, id in (("a", "state"), ("b", "2"), ("c", "state")):
            world.publish(data, id=id)
        member = world.join(last_event_id="state")
        world.reactor.run_soon()
        assert member.texts == ["b", "c"]
        assert member.client.headers["last-event-id"] == "state"

    @pytest.mark.parametrize("newest", ["none", "public", "private"])
    def test_resume_id(self, world: World, newest: str) -> None:
        """
        A client that resumes from the resume ID of the head gets later updates; it is not the ID of a private
        update.
        """
        published = world.publish("a", private=newest == "private") if newest != "none" else []
        id = result_of(world.hub.resume_id())
        assert [id] == published if newest == "public" else id[0] == "#"
        world.publish("b", "c")
        member = world.join(last_event_id=id)
        world.reactor.run_soon()
        assert member.texts == ["b", "c"]

    @pytest.mark.parametrize("seen", [False, True])
    def test_id_of_the_head_after_it_expired(
        self, new_world: Callable[..., World], plain: Wire, seen: bool
    ) -> None:
        """
        A client that received the newest update misses nothing when the journal has dropped it, before or
        after the hub started.
        """
        journal = MemoryJournal(reactor=plain.reactor, max_age=60.0)
        if not seen:
            journal.start(Follower())
            journal.append(Update("news", ServerSentEvent("a", id="a")))
        world = new_world(journal=journal)
        if seen:
            world.publish("a", id="a")
        result_of(world.hub.start())
        plain.reactor.advance(61)
        assert result_of(journal.find("a")) is None
        member = world.join(last_event_id="a")
        world.publish("c")
        assert member.texts == ["c"]

    def test_resume_id_of_a_new_client_after_a_private_update(self, world: World) -> None:
        """
        A new client is sent an opaque resume ID in place of the ID of a private update, and can resume from
        it.
        """
        world.publish("a", id="of-ada", private=True)
        member = world.join()
        assert member.last_event_id.startswith("#")
        member.leave()
        world.publish("b", private=True)
        world.publish("c")
        assert world.join(last_event_id=member.last_event_id).texts == ["c"]
        granted = world.join(Access("news", private="news"), last_event_id=member.last_event_id)
        assert granted.texts == ["b", "c"]

    def test_in_two_hubs(self, plain: Wire) -> None:
        """
        A channel that is subscribed to another hub is refused.
        """
        one, other = World(plain), World(plain)
        opened = one.open()
        one.hub.subscribe(opened.channel, "news")
        with pytest.raises(ValueError, match="is subscribed already"):
            other.hub.subscribe(opened.channel, "news")
        one.end()


class CountsTests:
    def test_subscribers(self, world: World) -> None:
        """
        Subscribers are counted in all and by topic, until their channels are closed.
        """
        ann, bob = world.join(["news", "sport"]), world.join("news")
        world.join(["*", Prefix("n")])
        counts = world.hub.subscribers
        assert (counts.total, counts["news"], counts["sport"], counts["other"]) == (3, 2, 1, 0)
        assert dict(counts.by_topic) == {"news": 2, "sport": 1}
        assert repr(counts) == "<Subscribers 3 in all, of 2 topics>"
        bob.leave()
        ann.channel.close()
        counts = world.hub.subscribers
        assert (counts.total, dict(counts.by_topic)) == (1, {})

    def test_each(self, world: World) -> None:
        """
        The subscribers can be iterated over, and their channels closed meanwhile.
        """
        members = [world.join() for _ in range(3)]
        assert len(world.hub.subscribers) == 3
        assert [each.channel for each in world.hub.subscribers] == world.channels
        for subscriber in world.hub.subscribers:
            subscriber.channel.close()
        assert [member.client.ended for member in members if member.events == []] == [True] * 3
        assert len(world.hub.subscribers) == 0

    def test_nothing_is_left(self, world: World) -> None:
        """
        The hub keeps nothing of clients that have disconnected, were closed or aborted, or have unsubscribed.
        """
        members = [world.join(["news", Prefix("a"), "*"]) for _ in range(6)]
        world.publish("a")
        members[0].leave()
        members[1].channel.close()
        members[2].channel.abort()
        members[3].client.disconnect(clean=True)
        next(iter(world.hub._membership.by_channel.values())).unsubscribe()
        members[5].client.transport.connectionLost(lost())
        world.reactor.run_soon()
        hub = world.hub
        assert hub.subscribers.total == 0
        assert [
            len(kept)
            for kept in (
                hub._membership.index._all,
                hub._membership.index._exact,
                hub._membership.index._selectors,
            )
        ] == [
            0,
            0,
            0,
        ]
        assert list(hub.subscribers) == []
        assert hub.metrics().channels == hub.metrics().topics == 0

    def test_metrics(self, world: World) -> None:
        """
        A snapshot of the metrics shows the present state, and does not change later.
        """
        first = world.hub.metrics()
        assert (first.channels, first.topics, first.replaying, first.buffered) == (0, 0, 0, 0)
        assert (first.published, first.delivered, first.bytes, first.closes) == (0, 0, 0, {})
        assert (first.fanouts, first.fanout_seconds, first.fanout_buckets) == (0, 0.0, (0, 0, 0, 0, 0))
        ann, bob = world.join(["a", "b"]), world.join("b")
        world.publish("x", topics="b")
        world.reactor.run_soon()
        ann.leave()
        bob.channel.close()
        second = world.hub.metrics()
        world.join("c")
        assert first.channels == second.channels == 0
        assert (second.published, second.delivered, second.fanouts) == (1, 2, 1)
        assert second.fanout_buckets == (1, 1, 1, 1, 1)
        assert second.closes == {CloseReason.CLIENT_GONE: 1, CloseReason.SERVER_CLOSED: 1}
        third = world.hub.metrics()
        assert (third.channels, third.topics) == (1, 1)
        second.closes.clear()
        assert world.hub.metrics().closes == third.closes != {}

    def test_drops_over_two_subscriptions(self, new_world: Callable[..., World]) -> None:
        """
        Dropped events of a channel are counted once, also after it has unsubscribed and subscribed again.
        """
        world = new_world(upgrader={"slow_policy": "drop", "max_buffer": 0})
        opened = world.open()
        subscriber = world.hub.subscribe(opened.channel, "news")
        opened.client.pump()
        opened.stop_reading()
        world.publish("a")
        world.reactor.run_soon()
        world.publish("b", "c")
        world.reactor.run_soon()
        assert world.hub.metrics().drops == 2
        subscriber.unsubscribe()
        assert world.hub.metrics().drops == 2
        world.hub.subscribe(opened.channel, "news")
        assert world.hub.metrics().drops == 2
        opened.leave()
        assert world.hub.metrics().drops == 2

    def test_buckets(self) -> None:
        """
        A fan-out counts in each bucket whose bound it does not exceed.
        """
        counters = Counters()
        for seconds in (*FANOUT_BUCKETS, 0.0, 2.0):
            counters.fanout_took(seconds)
        assert counters.fanout_buckets == [2, 3, 4, 5, 6]
        assert counters.fanouts == 7
        assert counters.fanout_seconds == pytest.approx(3.1111)


class ThreadReactor(FakeReactor):
    """
    A reactor that collects the calls of other threads, and makes them on command.
    """

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[Callable[[], object]] = []

    def callFromThread(self, call: Callable[[], object]) -> None:  # noqa: N802
        self.from_threads.append(call)

    def run_threads_calls(self) -> None:
        calls, self.from_threads = self.from_threads, []
        for call in calls:
            call()


class ThreadTests:
    @pytest.fixture
    def threaded(self, plain: Wire) -> Iterator[World]:
        plain.reactor = ThreadReactor()
        made = World(plain, journal=ScriptedJournal(reactor=plain.reactor))
        yield made
        made.end()

    def make_calls(self, world: World) -> None:
        assert isinstance(world.reactor, ThreadReactor)
        world.reactor.run_threads_calls()

    def test_publish(self, threaded: World) -> None:
        """
        publish_from_thread() does nothing in the calling thread; its future has the ID when the reactor has
        published.
        """
        member = threaded.join()
        future: Future[str] = threaded.hub.publish_from_thread(
            "news", "a", event="kind", id="7", retry=1.5, private=False
        )
        threaded.reactor.run_soon()
        assert threaded.hub.metrics().published == 0
        assert not future.done()
        self.make_calls(threaded)
        assert future.result(0) == "7"
        assert member.events == [ServerSentEvent("a", "kind", "7", 1.5)]
        assert member.retry == 1.5

    def test_private(self, threaded: World) -> None:
        """
        publish_from_thread() publishes private updates, and bytes.
        """
        member = threaded.join()
        threaded.hub.publish_from_thread("news", "secret", private=True)
        threaded.hub.publish_from_thread(["news"], b"public")
        self.make_calls(threaded)
        assert member.texts == ["public"]

    def test_invalid_topic(self, threaded: World) -> None:
        """
        The future of publish_from_thread() has the error of an invalid topic.
        """
        future = threaded.hub.publish_from_thread("*", "a")
        self.make_calls(threaded)
        assert isinstance(future.exception(0), InvalidField)

    def test_retain(self, threaded: World) -> None:
        """
        publish_from_thread(retain=, retain_for=) retains; its future has the errors of publish().
        """
        future = threaded.hub.publish_from_thread("news", "a", retain="k", retain_for=60)
        self.make_calls(threaded)
        assert future.result(0)
        assert threaded.hub.retained is not None
        row = threaded.hub.retained.find("news", "k")
        assert row is not None and row.expires < inf
        for options, error in (
            ({"retain": ""}, InvalidField),
            ({"retain": 7}, TypeError),
            ({"retain_for": 60}, ValueError),
            ({"retain": "k", "event": "unretain"}, InvalidField),
            ({"retain": "no", "event": "unretain", "data": "no"}, NotRetained),
        ):
            arguments: dict[str, Any] = {"topics": "news", "data": "x", **options}
            future = threaded.hub.publish_from_thread(**arguments)
            self.make_calls(threaded)
            assert isinstance(future.exception(0), error)

    def test_failing_journal(self, threaded: World) -> None:
        """
        The future of publish_from_thread() has the error of a journal that fails later.
        """
        journal = journal_of(threaded)
        result_of(threaded.hub.start())
        journal.errors["append"] = JournalFailed("x", "no journal")
        journal.held.add("append")
        future = threaded.hub.publish_from_thread("news", "a")
        self.make_calls(threaded)
        assert not future.done()
        journal.release("append")
        assert isinstance(future.exception(0), JournalFailed)

    def test_stopped(self, threaded: World) -> None:
        """
        The future of publish_from_thread() has the error of a hub that has stopped.
        """
        result_of(threaded.hub.stop())
        future = threaded.hub.publish_from_thread("news", "a")
        self.make_calls(threaded)
        assert isinstance(future.exception(0), HubStopped)

    def test_cancelled(self, threaded: World) -> None:
        """
        A future of publish_from_thread() can be cancelled until the reactor publishes the update, and not
        afterwards.
        """
        future = threaded.hub.publish_from_thread("news", "a")
        assert future.cancel()
        self.make_calls(threaded)
        assert threaded.hub.metrics().published == 0
        with pytest.raises(CancelledError):
            future.result(0)
        journal_of(threaded).held.add("append")
        late = threaded.hub.publish_from_thread("news", "b")
        self.make_calls(threaded)
        assert not late.cancel()
        journal_of(threaded).release("append")
        assert late.result(0)

    def test_global_reactor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        publish_from_thread() of a hub without a reactor uses the global one.
        """
        reactor = ThreadReactor()
        monkeypatch.setattr("txsse.server.upgrade.global_reactor", lambda: reactor)
        monkeypatch.setattr("txsse.journal.memory.global_reactor", lambda: reactor)
        future = Hub().publish_from_thread("news", "a")
        assert len(reactor.from_threads) == 1
        reactor.run_threads_calls()
        assert future.result(0)
        reactor.run_soon()


class FollowerTests:
    def test_entries(self, world: World) -> None:
        """
        The fan-out receives one entry from the journal for each update, with its position.
        """
        seen: list[Entry] = []
        result_of(world.hub.start())
        live = world.hub._distribution
        assert live is not None
        add = live.fanout.add

        def watching(entry: Entry) -> None:
            seen.append(entry)
            add(entry)

        live.fanout.add = watching  # type: ignore[assignment, method-assign]
        ids = world.publish("a", "b")
        turn(world.reactor)
        assert [(position, update.id) for position, update in seen] == [(1, ids[0]), (2, ids[1])]
