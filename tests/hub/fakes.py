"""
Fakes for the hub's tests: a hub with its clients, a journal that answers on command, and selectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.http import Request
from zope.interface import classImplementsOnly, implementer

from tests.fakes import Client, FakeReactor, FakeSocket, Wire
from txsse import EventStreamParser, Hub, IJournal, ISelector, MemoryJournal, ServerSentEvent, SSEChannel
from txsse.hub.roster import DEFAULT_GRACE
from txsse.journal.cluster import ICluster, NoCluster
from txsse.journal.page import Page
from txsse.journal.update import Update

T = TypeVar("T")


def result_of(deferred: Deferred[T]) -> T:
    """
    Return the result of a Deferred that has fired, or raise its failure.
    """
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    result: T = results[0]
    return result


def outcome_of(deferred: Deferred[Any]) -> list[Any]:
    """
    Return a list that a Deferred's result, or the exception of its failure, is appended to.
    """
    outcome: list[Any] = []
    deferred.addCallbacks(outcome.append, lambda failure: outcome.append(failure.value))
    return outcome


def lost() -> Failure:
    """
    Return the reason of a lost connection.
    """
    return Failure(ConnectionLost())


def turn(reactor: FakeReactor) -> None:
    """
    Run the calls that are due now. Calls that they schedule wait for the next turn.
    """
    for call in [call for call in reactor.getDelayedCalls() if call.getTime() <= reactor.seconds()]:
        if call.active():
            reactor.calls.remove(call)  # type: ignore[arg-type]
            call.called = 1  # type: ignore[attr-defined]
            call.func(*call.args, **call.kw)  # type: ignore[attr-defined]


class CountingSocket(FakeSocket):
    """
    A socket that records what it is sent.

    :ivar sends: the bytes of each call.
    :ivar cost: how long a call takes, in seconds.
    :ivar error: an exception that the next call raises.
    :ivar before_send: called before each call.
    """

    def __init__(self, reactor: FakeReactor) -> None:
        super().__init__()
        self.sends: list[bytes] = []
        self.cost = 0.0
        self.error: Exception | None = None
        self.before_send: Callable[[], object] = int
        self._reactor = reactor

    def send(self, data: bytes) -> int:
        self.before_send()
        self.sends.append(bytes(data))
        self._reactor.rightNow += self.cost
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().send(data)


class Member:
    """
    A client of a hub.

    :ivar client: the client's end of the connection.
    :ivar opened: the client's channel; ``None`` if its request opened none.
    """

    def __init__(self, world: World, client: Client) -> None:
        self.client = client
        self.opened: SSEChannel | None = None
        self.socket = CountingSocket(world.reactor)
        client.socket = self.socket
        client.transport.socket = self.socket
        self._parser = EventStreamParser()
        self._events: list[ServerSentEvent] = []
        self._read = 0

    @property
    def channel(self) -> SSEChannel:
        assert self.opened is not None, f"it got {self.client.status}"
        return self.opened

    @property
    def events(self) -> list[ServerSentEvent]:
        """
        The events that the client has received so far.
        """
        self.client.pump()
        body = self.client.body
        self._events += self._parser.feed(body[self._read :])
        self._read = len(body)
        return self._events

    @property
    def texts(self) -> list[str]:
        """
        The data of the events received so far; for a ``stream-reset``, its type.
        """
        return [event.event if event.event == "stream-reset" else event.data for event in self.events]

    @property
    def last_event_id(self) -> str:
        """
        The ID that the client would resume from.
        """
        assert self.events is not None
        return self._parser.last_event_id

    @property
    def retry(self) -> float | None:
        """
        The reconnection delay that the client was sent, in seconds.
        """
        assert self.events is not None
        return self._parser.retry

    def stop_reading(self) -> None:
        self.client.stop_reading()

    def read_on(self) -> None:
        self.client.read_on()

    def leave(self) -> None:
        """
        Lose the connection.
        """
        self.client.disconnect(clean=False)


class World:
    """
    A hub, its reactor and its clients.

    :param bounds: the bounds of a journal in memory.
    :param upgrader: options of the upgrader.
    :ivar channels: the channels that the upgrader has made, in order.
    """

    def __init__(
        self,
        wire: Wire,
        *,
        journal: Any = None,
        bounds: dict[str, Any] | None = None,
        upgrader: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.wire = wire
        self.reactor = wire.reactor
        self.channels: list[SSEChannel] = []
        self.members: list[Member] = []
        made = wire.upgrader(**(upgrader or {}))
        carry_out = made.carry_out

        def recording(request: Request, decision: Any, **options: Any) -> SSEChannel:
            channel = carry_out(request, decision, **options)
            self.channels.append(channel)
            return channel

        if bounds is not None:
            journal = MemoryJournal(reactor=wire.reactor, **bounds)
        made.carry_out = recording  # type: ignore[method-assign]
        self.hub = Hub(journal=journal, upgrader=made, reactor=wire.reactor, **options)

    def join(
        self,
        rule: Any = "news",
        *,
        last_event_id: str | None = None,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        path: str = "/",
        **options: Any,
    ) -> Member:
        """
        Connect a client to a resource of the hub.

        :param options: those of the resource.
        """
        member = Member(self, self.wire.connect(self.hub.resource(rule, **options)))
        self.members.append(member)
        fields = dict(headers or {})
        if last_event_id is not None:
            fields["Last-Event-ID"] = last_event_id
        before = len(self.channels)
        member.client.request(path, method=method, headers=fields)
        if len(self.channels) > before:
            member.opened = self.channels[-1]
        return member

    def open(self, **options: Any) -> Member:
        """
        Connect a client to an ``SSEResource`` outside of the hub, whose channel a test can subscribe.
        """
        from txsse import SSEResource

        member = Member(self, self.wire.connect(SSEResource(upgrader=self.hub.upgrader)))
        self.members.append(member)
        member.client.request(**options)
        member.opened = self.channels[-1]
        return member

    def publish(self, *texts: str, topics: str | Iterable[str] = "news", **options: Any) -> list[str]:
        """
        Publish texts, and return their IDs.
        """
        return [result_of(self.hub.publish(topics, text, **options)) for text in texts]

    def end(self) -> None:
        """
        Disconnect every client, and wait until no key is present, and no topic open, any more.
        """
        for member in self.members:
            if member.client.transport.connected:
                member.client.disconnect(clean=False)
        self.reactor.run_soon()
        self.reactor.advance(DEFAULT_GRACE)


@implementer(IJournal)
class Forgetful(MemoryJournal):
    """
    A journal in memory that retains no updates.
    """


classImplementsOnly(Forgetful, IJournal)


class ScriptedJournal(MemoryJournal):
    """
    A journal in memory whose methods can be delayed and can fail, by name.

    :ivar held: the names of the methods whose results wait for :meth:`release`.
    :ivar errors: the errors that methods fail with, by their names.
    :ivar calls: the names of the methods that were called.
    :ivar cancelled: the names of the methods whose Deferreds were cancelled.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.held: set[str] = set()
        self.errors: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.cancelled: list[str] = []
        self._waiting: list[tuple[str, Deferred[Any], Callable[[], Deferred[Any]]]] = []
        self.cluster = ScriptedCluster(self)

    def release(self, name: str) -> None:
        """
        Perform the calls of a method that wait, and no longer delay the method.
        """
        self.held.discard(name)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            called, answer, work = each
            if called != name:
                self._waiting.append(each)
            elif not answer.called:
                self._work(name, work).chainDeferred(answer)

    def _answer(self, name: str, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        self.calls.append(name)
        if name not in self.held:
            return self._work(name, work)
        answer: Deferred[Any] = Deferred(lambda _: self.cancelled.append(name))
        self._waiting.append((name, answer, work))
        return answer

    def _work(self, name: str, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        return fail(self.errors[name]) if name in self.errors else work()

    def start(self, follower: Any) -> Deferred[None]:
        start = super().start
        return self._answer("start", lambda: start(follower))

    def append(self, update: Update) -> Deferred[int]:
        append = super().append
        return self._answer("append", lambda: append(update))

    def find(self, id: str) -> Deferred[int | None]:
        find = super().find
        return self._answer("find", lambda: find(id))

    def at(self, position: int) -> Deferred[Update | None]:
        at = super().at
        return self._answer("at", lambda: at(position))

    def read(self, after: int) -> Deferred[Page]:
        read = super().read
        return self._answer("read", lambda: read(after))

    def stop(self) -> Deferred[None]:
        return self._answer("stop", super().stop)


@implementer(ICluster)
class ScriptedCluster(NoCluster):
    """
    The cluster of a scripted journal, with the same script.
    """

    def __init__(self, journal: ScriptedJournal) -> None:
        super().__init__()
        self._journal = journal

    def count_subscribers(self, topic: str) -> Deferred[int]:
        count_subscribers = super().count_subscribers
        return self._journal._answer("count_subscribers", lambda: count_subscribers(topic))

    def metadata(self, name: str) -> Deferred[list[str]]:
        metadata = super().metadata
        return self._journal._answer("metadata", lambda: metadata(name))


@implementer(ISelector)
class Prefix:
    """
    Matches the topics that begin with a text, and records the topics that it is asked about.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.asked: list[str] = []

    def __repr__(self) -> str:
        return f"{self.prefix}…"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefix) and other.prefix == self.prefix

    def __hash__(self) -> int:
        return hash(self.prefix)

    def matches(self, topic: str) -> bool:
        self.asked.append(topic)
        return topic.startswith(self.prefix)


class Heavy(Prefix):
    """
    A selector with a weight.

    :ivar cost: how long a match takes, in seconds of the reactor.
    """

    def __init__(
        self, prefix: str, weight: int, *, cost: float = 0.0, reactor: FakeReactor | None = None
    ) -> None:
        super().__init__(prefix)
        self.weight = weight
        self._cost = cost
        self._reactor = reactor

    def matches(self, topic: str) -> bool:
        if self._reactor is not None:
            self._reactor.rightNow += self._cost
        return super().matches(topic)


@implementer(ISelector)
class Broken:
    """
    Raises for every topic.
    """

    def matches(self, topic: str) -> bool:
        raise ZeroDivisionError(topic)
