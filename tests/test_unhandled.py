"""
Failures of Deferreds that the program does not handle are logged in one line, at a limited rate.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.logger import LogEvent, Logger, formatEvent, globalLogPublisher

from tests.fakes import Wire
from tests.hub.fakes import ScriptedJournal, World, outcome_of, result_of
from txsse import HubStopped, JournalFailed
from txsse._rate_limited_log import RateLimitedLog
from txsse._unhandled import Unhandled


class Logs:
    """
    A log with its own clock, and the watcher of Deferreds that writes to it.

    :ivar twisted: the events that other code logs.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[LogEvent] = []
        self.twisted: list[LogEvent] = []
        log: Any = Logger(observer=self.events.append)  # type: ignore[arg-type]
        sparing = RateLimitedLog(log, clock=lambda: self.now, burst=1, interval=10.0)
        self.unhandled = Unhandled(sparing, JournalFailed)

    @property
    def texts(self) -> list[str]:
        gc.collect()
        return [formatEvent(event) for event in self.events]

    def failing(self, error: Exception | None = None) -> Deferred[Any]:
        return self.unhandled.watch(fail(error or JournalFailed("x", "it is full")), "hub.publish")


@pytest.fixture
def logs() -> Iterator[Logs]:
    made = Logs()
    globalLogPublisher.addObserver(made.twisted.append)  # type: ignore[arg-type]
    yield made
    gc.collect()
    globalLogPublisher.removeObserver(made.twisted.append)  # type: ignore[arg-type]


def line(count: int) -> str:
    return (
        "hub.publish failed, and the program did not handle the failure: x: it is full "
        f"(failures since the last such line: {count}). "
        "Add an errback to the Deferred that hub.publish returns, or await it"
    )


class UnhandledTests:
    @pytest.mark.slow
    def test_one_line(self, logs: Logs) -> None:
        """
        Unhandled failures are logged without a traceback, at most once in ten seconds, and the next line
        counts those in between.
        """
        for _ in range(11):
            logs.failing()
        assert logs.texts == [line(1)]
        logs.now = 9.9
        logs.failing()
        assert logs.texts == [line(1)]
        logs.now = 10.0
        logs.failing()
        assert logs.texts == [line(1), line(12)]
        assert "log_failure" not in logs.events[0]
        assert logs.twisted == []

    @pytest.mark.slow
    def test_pending(self, logs: Logs) -> None:
        """
        A Deferred that fails later is logged too, even if it has a callback.
        """
        pending: Deferred[Any] = Deferred()
        logs.unhandled.watch(pending, "hub.publish").addCallback(print)
        pending.errback(JournalFailed("x", "it is full"))
        del pending
        assert logs.texts == [line(1)]
        assert logs.twisted == []

    @pytest.mark.slow
    @pytest.mark.parametrize("way", ["errback", "await", "yield", "chain"])
    def test_handled(self, logs: Logs, way: str) -> None:
        """
        A failure that the program handles is not logged, whatever way it is handled.
        """
        handled: list[BaseException] = []

        async def awaiting() -> None:
            try:
                await logs.failing()
            except JournalFailed as error:
                handled.append(error)

        @inlineCallbacks
        def yielding() -> Any:
            try:
                yield logs.failing()
            except JournalFailed as error:
                handled.append(error)

        if way == "errback":
            handled += outcome_of(logs.failing())
        elif way == "await":
            Deferred.fromCoroutine(awaiting())
        elif way == "yield":
            yielding()
        else:
            handled += outcome_of(succeed(None).addCallback(lambda _: logs.failing()))
        assert [str(error) for error in handled] == ["x: it is full"]
        assert logs.texts == []
        assert logs.twisted == []

    @pytest.mark.slow
    def test_awaited_and_not_handled(self, logs: Logs) -> None:
        """
        A failure that a coroutine does not catch belongs to the coroutine's Deferred, and Twisted logs it.
        """

        async def awaiting() -> None:
            await logs.failing()

        Deferred.fromCoroutine(awaiting())
        assert logs.texts == []
        assert any("log_failure" in event for event in logs.twisted)

    @pytest.mark.slow
    def test_programming_error(self, logs: Logs) -> None:
        """
        A failure of an unexpected class, which is a programming error, keeps its traceback.
        """
        logs.failing(ZeroDivisionError("x"))
        logs.failing().addErrback(lambda _: 1 // 0)
        assert logs.texts == []
        failures = [event for event in logs.twisted if "log_failure" in event]
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError] * 2

    @pytest.mark.slow
    def test_success(self, logs: Logs) -> None:
        """
        A Deferred that succeeds or never fires is not logged.
        """
        logs.unhandled.watch(succeed("x"), "hub.publish")
        logs.unhandled.watch(Deferred(), "hub.publish")
        assert logs.texts == []
        assert logs.twisted == []

    @pytest.mark.slow
    def test_watched_twice(self, logs: Logs) -> None:
        """
        If two functions return the same Deferred, the log names the last one.
        """
        logs.unhandled.watch(logs.failing(), "hub.start")
        assert [text.split(",")[0] for text in logs.texts] == ["hub.start failed"]

    @pytest.mark.slow
    def test_in_a_cycle(self, logs: Logs) -> None:
        """
        A Deferred in a reference cycle is logged in one line, in whatever order the garbage collector
        finalizes it.
        """
        for _ in range(100):
            error = JournalFailed("x", "it is full")
            error.dropped = logs.failing(error)  # type: ignore[attr-defined]
        del error
        assert logs.texts == [line(1)]
        assert logs.twisted == []

    @pytest.mark.slow
    def test_debugging(self, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        In a program that debugs Deferreds, Twisted logs the failure, with the place where its Deferred was
        made.
        """
        monkeypatch.setattr(Deferred, "debug", True)
        logs.failing()
        assert logs.texts == []
        assert any("debugInfo" in event for event in logs.twisted)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "owner, name", [(Deferred, "_debugInfo"), (defer, "DebugInfo"), (defer.DebugInfo, "failResult")]
    )
    def test_other_twisted(
        self, logs: Logs, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
    ) -> None:
        """
        With a Twisted whose private names differ, the failure is logged by Twisted.
        """
        deferred: Deferred[Any] = Deferred()
        with monkeypatch.context() as context:
            context.delattr(owner, name)
            logs.unhandled.watch(deferred, "hub.publish")
        deferred.errback(JournalFailed("x", "it is full"))
        del deferred
        assert logs.texts == []
        assert any("log_failure" in event for event in logs.twisted)


@pytest.fixture
def world(plain: Wire) -> Iterator[World]:
    made = World(plain, journal=ScriptedJournal(reactor=plain.reactor))
    yield made
    made.end()


CALLS: dict[str, Callable[[Any], Deferred[Any]]] = {
    "hub.publish": lambda hub: hub.publish("news", "x"),
    "hub.start": lambda hub: hub.start(),
    "hub.count_subscribers": lambda hub: hub.count_subscribers(),
    "hub.resume_id": lambda hub: hub.resume_id(),
}

METHODS = {"hub.publish": "append", "hub.count_subscribers": "count_subscribers", "hub.start": "start"}


@pytest.mark.slow
class HubTests:
    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize("held", [False, True])
    def test_dropped(self, world: World, logs: Logs, name: str, held: bool) -> None:
        """
        A failed Deferred of the hub that the program drops is logged in one line, whether it failed at once
        or later.
        """
        journal = world.hub._given_journal
        assert isinstance(journal, ScriptedJournal)
        method = METHODS.get(name, "at")
        if method == "append":
            result_of(world.hub.start())
        journal.errors[method] = JournalFailed("x", "it is full")
        if held:
            journal.held.add(method)
        for _ in range(11):
            CALLS[name](world.hub)
        if held:
            journal.release(method)
        # The traceback would keep the Deferreds alive.
        journal.errors.clear()
        gc.collect()
        logged = [formatEvent(event) for event in logs.twisted if "log_failure" in event]
        assert logged == []
        lines = [event for event in logs.twisted if event["log_level"].name in ("error", "critical")]
        assert [event["called"] for event in lines] == [name]

    @pytest.mark.parametrize("held", [False, True])
    @pytest.mark.parametrize(
        ("called", "reason"),
        [("hub.publish", "retains at most 1 updates"), ("hub.unretain", "no update with the key 'b'")],
    )
    def test_refused(self, world: World, logs: Logs, held: bool, called: str, reason: str) -> None:
        """
        Retained updates that the journal refuses, and whose Deferreds the program drops, are logged in one
        line with the method and the reason, whether they were refused at once or later.
        """
        journal = world.hub._given_journal
        assert isinstance(journal, ScriptedJournal)
        result_of(world.hub.start())
        journal.retained.max_count = 1
        result_of(world.hub.publish("news", "x", retain="a"))
        if held:
            journal.held.add("append")
        for _ in range(11):
            if called == "hub.publish":
                world.hub.publish("news", "x", retain="b")
            else:
                world.hub.unretain("news", "b")
        journal.release("append")
        gc.collect()
        lines = [event for event in logs.twisted if event["log_level"].name in ("error", "critical")]
        assert [event["called"] for event in lines] == [called]
        assert reason in lines[0]["error"]
        assert "log_failure" not in lines[0]

    def test_stopped(self, world: World, logs: Logs) -> None:
        """
        Calls of a stopped hub whose Deferreds the program drops are logged in one line.
        """
        result_of(world.hub.stop())
        for _ in range(11):
            world.hub.publish("news", "x")
            world.hub.start()
        gc.collect()
        lines = [event for event in logs.twisted if event["log_level"].name in ("error", "critical")]
        assert [event["error"] for event in lines] == [str(HubStopped())]


@pytest.mark.slow
class DrainTests:
    def test_client_disconnects(self, world: World, logs: Logs) -> None:
        """
        A client that disconnects while the program waits for ``drain`` is not logged.
        """
        member = world.open()
        member.channel.drain().addCallback(print)
        member.leave()
        member.channel.drain().addCallback(print)
        gc.collect()
        assert [event for event in logs.twisted if event["log_level"].name != "info"] == []
