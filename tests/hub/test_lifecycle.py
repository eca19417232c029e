"""
The states of a hub, from new to stopped.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import LogEvent

from tests.hub.fakes import outcome_of
from txsse.errors import HubStopped, JournalFailed
from txsse.hub.lifecycle import Lifecycle


class Journal:
    """
    A journal that starts on command.
    """

    def __init__(self) -> None:
        self.starts: list[Deferred[None]] = []

    async def start(self) -> None:
        self.starts.append(Deferred())
        await self.starts[-1]


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def life(journal: Journal) -> Lifecycle:
    return Lifecycle(journal.start)


async def nothing() -> None:
    pass


def failed(outcome: list[Any]) -> list[type]:
    return [type(each) for each in outcome]


class StartTests:
    def test_started_once(self, life: Lifecycle, journal: Journal) -> None:
        """
        All callers of start() share one start of the journal; a live hub does not start it again.
        """
        waiting = [outcome_of(life.start()) for _ in range(2)]
        assert (len(journal.starts), life.has_journal, waiting) == (1, True, [[], []])
        journal.starts[0].callback(None)
        assert waiting == [[None], [None]]
        assert outcome_of(life.start()) == [None]
        assert (len(journal.starts), life.has_journal) == (1, True)

    def test_again_after_a_failure(self, life: Lifecycle, journal: Journal) -> None:
        """
        After its journal failed to start, a hub is new, and its next use starts the journal again.
        """
        waiting = outcome_of(life.start())
        journal.starts[0].errback(JournalFailed("journal", "no"))
        assert failed(waiting) == [JournalFailed]
        assert not life.has_journal
        waiting = outcome_of(life.start())
        journal.starts[1].callback(None)
        assert waiting == [None]

    def test_used_while_it_starts(self) -> None:
        """
        A journal may use its hub while it starts, even before its start() returns.
        """
        outcome: list[Any] = []

        async def start() -> None:
            life.start().addCallback(outcome.append)  # type: ignore[attr-defined]

        life = Lifecycle(start)
        assert outcome_of(life.start()) == [None]
        assert outcome == [None]


class StopTests:
    @pytest.mark.parametrize("before", ["new", "starting", "live"])
    def test_each_state(self, life: Lifecycle, journal: Journal, before: str) -> None:
        """
        A hub can be stopped in any state: it is stopping at once, and stopped when it has been drained.
        """
        if before != "new":
            life.start()
        if before == "live":
            journal.starts[0].callback(None)
        drained: Deferred[None] = Deferred()

        async def drain() -> None:
            await drained

        waiting = [outcome_of(life.stop(drain)), outcome_of(life.stop(nothing))]
        assert (life.is_stopping, life.is_stopped, waiting) == (True, False, [[], []])
        assert life.has_journal is (before != "new")
        drained.callback(None)
        assert (life.is_stopping, life.is_stopped, waiting) == (True, True, [[None], [None]])
        assert outcome_of(life.stop(drain)) == [None]
        assert failed(outcome_of(life.start())) == [HubStopped]

    def test_used_while_it_drains(self, life: Lifecycle, journal: Journal) -> None:
        """
        A draining hub does not start its journal, but waits for a start that is under way, and uses a started
        one.
        """
        drained: Deferred[None] = Deferred()

        async def drain() -> None:
            await drained

        life.start()
        life.stop(drain)
        waiting = outcome_of(life.start())
        assert waiting == []
        journal.starts[0].callback(None)
        assert waiting == [None]
        assert outcome_of(life.start()) == [None]
        other = Lifecycle(journal.start)
        other.stop(drain)
        assert failed(outcome_of(other.start())) == [HubStopped]
        assert len(journal.starts) == 1

    @pytest.mark.parametrize("fails", [False, True])
    def test_journal_answers_too_late(self, life: Lifecycle, journal: Journal, fails: bool) -> None:
        """
        The result of a journal's start that arrives after the hub has stopped changes nothing.
        """
        life.start().addErrback(lambda _: None)
        life.stop(nothing)
        assert life.is_stopped
        if fails:
            journal.starts[0].errback(JournalFailed("journal", "no"))
        else:
            journal.starts[0].callback(None)
        assert life.is_stopped
        assert failed(outcome_of(life.start())) == [HubStopped]

    def test_draining_that_fails(self, life: Lifecycle, failures: list[LogEvent]) -> None:
        """
        A failure while a hub drains is logged, and the hub has stopped.
        """

        async def drain() -> None:
            raise OSError("no")

        assert outcome_of(life.stop(drain)) == [None]
        assert life.is_stopped
        assert [event["log_format"] for event in failures] == ["the hub did not shut down cleanly"]
