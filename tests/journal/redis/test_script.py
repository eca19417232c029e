"""
Tests of calls of the script, with a fake session.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from tests.hub.fakes import outcome_of
from txsse import JournalFailed
from txsse.journal.redis.connection import Refused
from txsse.journal.redis.script import Script
from txsse.journal.redis.session import Session


class Played:
    """
    A fake session, which replies or fails as the test sets it.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[str] = []
        self.error: Exception | None = None
        self.cuts = 0
        self.script = Script(self, "redis://x", self.clock.seconds)
        self.script.start(self.clock)
        self.session = cast(Session, self)
        self.script.session_began(self.session)

    def run(self, command: str, *_: Any) -> Deferred[str]:
        self.asked.append(command)
        return succeed("done") if self.error is None else fail(self.error)

    def cut(self) -> None:
        self.cuts += 1


class RefusalTests:
    def test_retried(self) -> None:
        """
        The journal itself retries the kinds of command that Redis refused, until they succeed.
        """
        played = Played()
        played.error = Refused("redis://x", "no memory")
        assert outcome_of(played.script.run("append", b"x")) == [played.error]
        assert outcome_of(played.script.run("read", 0)) == [played.error]
        assert played.script.problem is played.error
        played.clock.advance(2)
        played.clock.advance(2)
        assert played.asked == ["append", "read", *["probe", "read"] * 2]
        played.error = None
        played.clock.advance(2)
        assert played.script.problem is None
        assert played.clock.getDelayedCalls() == []

    def test_stopped(self) -> None:
        """
        A journal that has been stopped no longer retries the commands that Redis refused.
        """
        played = Played()
        played.error = Refused("redis://x", "no memory")
        outcome_of(played.script.run("append", b"x"))
        played.script.stop()
        assert played.clock.getDelayedCalls() == []
        (error,) = outcome_of(played.script.run("append", b"x"))
        assert isinstance(error, JournalFailed) and error.problem == "no memory"

    def test_not_master(self) -> None:
        """
        The journal ends its session with a Redis server that is no longer the master.
        """
        played = Played()
        played.error = Refused("redis://x", "the server is now a replica (READONLY)")
        outcome_of(played.script.run("append", b"x"))
        assert played.cuts == 1
        assert played.clock.getDelayedCalls() == []


class SessionTests:
    def test_no_session(self) -> None:
        """
        Without a session, each call of the script fails with the problem of the lost session.
        """
        played = Played()
        played.script.session_lost(JournalFailed("redis://x", "is lost"))
        (error,) = outcome_of(played.script.run("read"))
        assert isinstance(error, JournalFailed) and error.problem == "is lost"
        assert played.asked == []

    def test_failure_of_a_lost_session(self) -> None:
        """
        A late failure in a lost session sets no problem for the next session.
        """
        played = Played()
        late: Deferred[str] = Deferred()
        played.run = lambda command, *_: late  # type: ignore[method-assign]
        outcome = outcome_of(played.script.run("read"))
        played.script.session_lost(JournalFailed("redis://x", "is lost"))
        played.script.session_began(cast(Session, Played()))
        late.errback(JournalFailed("redis://x", "no reply"))
        assert isinstance(outcome[0], JournalFailed)
        assert played.script.problem is None
