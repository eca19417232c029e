"""
A node among others, on a clock that stands still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from txsse import JournalFailed
from txsse._randomness import system_randomness
from txsse.journal.redis.cluster import RedisCluster


class TimeSlices(Clock):
    """
    A clock on which what is to be done at once is done in the next turn, and not in this one.
    """

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> Any:  # noqa: N802
        return super().callLater(delay or 0.001, callable, *args, **kw)


class Server:
    """
    Notes what it is asked, and answers when it is told to.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []
        self.out = False
        self.clock = TimeSlices()
        self.counts = {"*": 1}
        self.there = [1, 1]
        self.changed: set[str] = set()
        self.cluster = RedisCluster(self.run, self.clock.seconds, lambda: None, system_randomness())
        self.cluster.start(self)
        self.cluster.session_began(self.clock)

    def subscriber_counts(self) -> dict[str, int]:
        return self.counts

    def message_received(self, message: str) -> Deferred[None] | None:
        raise NotImplementedError

    def changed_topics(self) -> set[str]:
        changed, self.changed = self.changed, set()
        return changed

    def run(self, command: str, *arguments: Any) -> Deferred[Any]:
        self.asked.append((command, *arguments))
        if self.out:
            return fail(JournalFailed("x", "is out"))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def turn(self) -> None:
        self.clock.advance(0.001)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback(self.there)

    def notes(self) -> list[tuple[str, ...]]:
        """
        Return what notes it was sent since it was last looked, one item for each command.
        """
        asked, self.asked = self.asked, []
        return [tuple(arguments[2:]) for command, *arguments in asked if command == "put_metadata"]


class StopTests:
    def test_while_it_announces(self) -> None:
        """
        It does not announce itself again.
        """
        server = Server()
        server.turn()
        server.cluster.stop()
        server.answer()
        server.clock.advance(60)
        assert [command for command, *_ in server.asked] == ["heartbeat", "leave"]
        assert not server.clock.getDelayedCalls()

    def test_before_it_starts(self) -> None:
        """
        There is nothing to end.
        """
        server = Server()
        cluster = RedisCluster(server.run, server.clock.seconds, lambda: None, system_randomness())
        cluster.stop()
        assert server.asked == []


class StartTests:
    def test_again(self) -> None:
        """
        Behind a session that was lost it tells all anew, at once, and then now and then as before.
        """
        server = Server()
        server.turn()
        server.answer()
        server.clock.advance(1)
        server.cluster.session_began(server.clock)
        server.turn()
        server.answer()
        assert [(command, each[3], each[4:]) for command, *each in server.asked] == [
            ("heartbeat", 1, ["*", 1]),
        ] * 2
        server.clock.advance(2)
        assert len(server.asked) == 3
        assert len(server.clock.getDelayedCalls()) == 0

    def test_while_it_announces(self) -> None:
        """
        What was on its way does not make it tell twice as often.
        """
        server = Server()
        server.turn()
        server.cluster.session_began(server.clock)
        server.answer()
        assert len(server.clock.getDelayedCalls()) == 1


class CountTests:
    """
    How many want what, told now and then.
    """

    def told(self, server: Server) -> list[dict[str, int]]:
        asked, server.asked = server.asked, []
        return [
            dict(zip(arguments[4::2], arguments[5::2], strict=True))
            for command, *arguments in asked
            if command == "heartbeat"
        ]

    def test_many(self) -> None:
        """
        More than go at once are told as soon as these have arrived, and not before; how many there are in all
        comes first.
        """
        server = Server()
        server.counts = {"*": 7, **{str(number): 1 for number in range(2500)}}
        server.turn()
        (first,) = self.told(server)
        assert (len(first), first["*"]) == (1000, 7)
        server.turn()
        assert self.told(server) == []
        later = []
        for _ in range(2):
            server.answer()
            server.turn()
            later += self.told(server)
        assert [len(each) for each in later] == [1000, 501]
        assert len({**first, **later[0], **later[1]}) == 2501
        server.answer()
        server.turn()
        assert self.told(server) == []

    def test_work_of_a_turn(self) -> None:
        """
        However many topics there are, a turn asks for the counts of a thousand at most; and, once all were
        told, for those alone that have changed.
        """

        class Counts(dict[str, int]):
            asked = 0

            def get(self, topic: str, default: Any = None) -> Any:
                self.asked += 1
                return super().get(topic, default)

        server = Server()
        server.counts = counts = Counts({"*": 1, **{str(number): 1 for number in range(20_000)}})
        told: dict[str, int] = {}
        while len(told) < 20_001:
            counts.asked = 0
            server.turn()
            assert 0 < counts.asked <= 1000
            for each in self.told(server):
                told |= each
            server.answer()
        server.clock.advance(2)
        server.answer()
        counts.asked = 0
        counts |= {"7": 2, "8": 1}
        del counts["9"]
        server.changed = {"*", "7", "8", "9", "unknown"}
        self.told(server)
        server.clock.advance(2)
        assert self.told(server) == [{"7": 2, "9": 0}]
        assert counts.asked == 5

    @pytest.mark.parametrize("forgotten", ["counts", "notes"])
    def test_forgotten(self, forgotten: str) -> None:
        """
        Where the server has forgotten it, because it was silent for too long, all is told anew.
        """
        server = Server()
        server.cluster.put_metadata("a", "1")
        server.turn()
        server.answer()
        server.clock.advance(2)
        server.answer()
        server.clock.advance(2)
        assert [each for each in self.told(server)] == [{"*": 1}, {}, {}]
        server.there = [0, 1] if forgotten == "counts" else [1, 0]
        server.answer()
        server.clock.advance(2)
        assert server.asked[0][4] == 1
        assert server.notes() == [("a", "1")]
        server.there = [1, 1]
        server.answer()
        server.clock.advance(2)
        assert server.asked[0][4] == 0

    def test_not_sent_yet(self) -> None:
        """
        What was not sent cannot have been forgotten.
        """
        server = Server()
        server.turn()
        server.answer()
        server.cluster.put_metadata("a", "1")
        server.there = [1, 0]
        for _ in range(2):
            server.clock.advance(2)
            server.answer()
        assert [arguments[4] for arguments in server.asked] == [1, 0, 0]

    def test_nothing_to_forget(self) -> None:
        """
        That there is nothing of what was never there is no reason to.
        """
        server = Server()
        server.counts = {}
        server.there = [0, 0]
        for _ in range(3):
            server.clock.advance(2)
            server.answer()
        assert [arguments[4] for arguments in server.asked] == [1, 0, 0]

    def test_follower_that_fails(self, failures: list[LogEvent]) -> None:
        """
        It is asked again the next time.
        """
        server = Server()
        counts, server.counts = server.counts, None  # type: ignore[assignment]
        server.turn()
        assert [event["log_failure"].type for event in failures] == [TypeError]
        failures.clear()
        server.counts = counts
        server.cluster.put_metadata("a", "1")
        server.clock.advance(2)
        assert server.asked[0][4] == 1
        assert server.asked[1][3:] == ("a", "1")
        assert self.told(server) == [{"*": 1}]


class NoteTests:
    def test_sent(self) -> None:
        """
        Each is sent once, as it is by then; what is taken back is sent empty.
        """
        server = Server()
        server.turn()
        server.cluster.put_metadata("a", "1")
        server.cluster.put_metadata("a", "2")
        server.cluster.put_metadata("b", "3")
        server.cluster.send_metadata()
        server.cluster.send_metadata()
        server.cluster.put_metadata("a", None)
        server.cluster.put_metadata("unknown", None)
        server.cluster.send_metadata()
        assert server.notes() == [("a", "2", "b", "3"), ("a", "", "unknown", "")]
        server.answer()
        server.clock.advance(60)
        assert server.notes() == []

    def test_before_it_joins(self) -> None:
        """
        They go behind what begins it anew.
        """
        server = Server()
        server.cluster.put_metadata("a", "1")
        server.cluster.send_metadata()
        assert server.asked == []
        server.turn()
        assert [command for command, *_ in server.asked] == ["heartbeat", "put_metadata"]
        assert server.asked[0][4] == 1
        assert server.notes() == [("a", "1")]

    def test_many(self) -> None:
        """
        No command has more than a hundred of them.
        """
        server = Server()
        server.turn()
        for number in range(250):
            server.cluster.put_metadata(str(number), "x")
        server.cluster.send_metadata()
        sent = server.notes()
        assert [len(each) // 2 for each in sent] == [100, 100, 50]
        assert [name for each in sent for name in each[::2]] == list(map(str, range(250)))

    def test_many_anew(self) -> None:
        """
        A thousand go in a turn, and what changes meanwhile does not wait for them.
        """
        server = Server()
        for number in range(2500):
            server.cluster.put_metadata(str(number), "x")
        server.turn()
        assert len(server.notes()) == 10
        server.cluster.put_metadata("2400", None)
        server.cluster.put_metadata("2500", "y")
        server.cluster.send_metadata()
        assert server.notes() == [("2400", "", "2500", "y")]
        server.turn()
        server.turn()
        later = [name for each in server.notes() for name in each[::2]]
        assert later == [str(number) for number in range(1000, 2500) if number != 2400]
        assert len(server.clock.getDelayedCalls()) == 0

    def test_stopped_while_many_are_sent(self) -> None:
        """
        The rest is not sent any more; so it is where the server is out.
        """
        for end in (lambda server: server.cluster.stop(), lambda server: setattr(server, "out", True)):
            server = Server()
            for number in range(2500):
                server.cluster.put_metadata(str(number), "x")
            server.turn()
            server.notes()
            end(server)
            server.turn()
            server.turn()
            assert len(server.notes()) <= 1

    @pytest.mark.parametrize("failing", ["heartbeat", "put_metadata"])
    def test_outage(self, failing: str) -> None:
        """
        Behind an outage all that there are by then are sent anew.
        """
        server = Server()
        server.turn()
        server.answer()
        server.cluster.put_metadata("a", "1")
        server.cluster.put_metadata("b", "2")
        server.cluster.send_metadata()
        server.answer()
        server.out = True
        if failing == "heartbeat":
            server.clock.advance(2)
        else:
            server.cluster.put_metadata("b", "3")
            server.cluster.send_metadata()
        server.notes()
        server.cluster.put_metadata("a", None)
        server.cluster.put_metadata("c", "4")
        server.cluster.send_metadata()
        assert server.notes() == []
        server.out = False
        server.clock.advance(2)
        assert [arguments[4] for arguments in server.asked if arguments[0] == "heartbeat"] == [1]
        assert server.notes() == [("b", "2" if failing == "heartbeat" else "3", "c", "4")]
        server.cluster.put_metadata("d", "5")
        server.cluster.send_metadata()
        assert server.notes() == [("d", "5")]
