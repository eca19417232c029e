"""
Tests of a node's heartbeats and metadata, with a fake server and a fake clock.
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
    A clock on which a call without delay is made in the next turn, not in this one.
    """

    def callLater(self, delay: float, callable: Callable[..., object], *args: Any, **kw: Any) -> Any:  # noqa: N802
        return super().callLater(delay or 0.001, callable, *args, **kw)


class Server:
    """
    A fake server and listener: it records commands, and replies when the test calls :meth:`answer`.

    :ivar had_data: a part of the reply to a heartbeat: whether the server had counts, and metadata, of the
        node.
    :ivar was_alive: another part: whether the node counted as alive.
    :ivar messages: another part: how many messages have been sent to all nodes.
    :ivar missed: how often the listener was notified of missed messages.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.waiting: list[Deferred[Any]] = []
        self.is_unavailable = False
        self.clock = TimeSlices()
        self.counts = {"*": 1}
        self.had_data = [1, 1]
        self.was_alive, self.messages = 1, 0
        self.missed = 0
        self.changed: set[str] = set()
        self.cluster = RedisCluster(self.run, self.clock.seconds, lambda: None, system_randomness())
        self.cluster.start(self)
        self.cluster.session_began(self.clock)

    def subscriber_counts(self) -> dict[str, int]:
        return self.counts

    def messages_missed(self) -> None:
        self.missed += 1

    def message_received(self, message: str) -> Deferred[str | None] | str | None:
        raise NotImplementedError

    def changed_topics(self) -> set[str]:
        changed, self.changed = self.changed, set()
        return changed

    def run(self, command: str, *arguments: Any) -> Deferred[Any]:
        self.asked.append((command, *arguments))
        if self.is_unavailable:
            return fail(JournalFailed("x", "is unavailable"))
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def turn(self) -> None:
        self.clock.advance(0.001)

    def answer(self) -> None:
        waiting, self.waiting = self.waiting, []
        for each in waiting:
            each.callback([*self.had_data, self.was_alive, self.messages, 0, 0])

    def sent_metadata(self) -> list[tuple[str, ...]]:
        """
        Return the metadata sent since the last call of this, one item for each command.
        """
        asked, self.asked = self.asked, []
        return [tuple(arguments[2:]) for command, *arguments in asked if command == "put_metadata"]


class StopTests:
    def test_during_a_heartbeat(self) -> None:
        """
        A node that is stopped during a heartbeat sends no further heartbeat.
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
        A cluster that is stopped before it started sends no command.
        """
        server = Server()
        cluster = RedisCluster(server.run, server.clock.seconds, lambda: None, system_randomness())
        cluster.stop()
        assert server.asked == []


class StartTests:
    def test_new_session(self) -> None:
        """
        After a lost session a node sends all of its counts anew, at once, and then at the usual interval.
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

    def test_new_session_during_a_heartbeat(self) -> None:
        """
        After a session is lost during a heartbeat, a node sends heartbeats at the usual interval, not twice
        as often.
        """
        server = Server()
        server.turn()
        server.cluster.session_began(server.clock)
        server.answer()
        assert len(server.clock.getDelayedCalls()) == 1


class CountTests:
    def sent_counts(self, server: Server) -> list[dict[str, int]]:
        asked, server.asked = server.asked, []
        return [
            dict(zip(arguments[4::2], arguments[5::2], strict=True))
            for command, *arguments in asked
            if command == "heartbeat"
        ]

    def test_many(self) -> None:
        """
        A node with more than 1000 changed topics sends 1000 at a time, the total count first, each after a
        reply.
        """
        server = Server()
        server.counts = {"*": 7, **{str(number): 1 for number in range(2500)}}
        server.turn()
        (first,) = self.sent_counts(server)
        assert (len(first), first["*"]) == (1000, 7)
        server.turn()
        assert self.sent_counts(server) == []
        later = []
        for _ in range(2):
            server.answer()
            server.turn()
            later += self.sent_counts(server)
        assert [len(each) for each in later] == [1000, 501]
        assert len({**first, **later[0], **later[1]}) == 2501
        server.answer()
        server.turn()
        assert self.sent_counts(server) == []

    def test_work_of_a_turn(self) -> None:
        """
        A heartbeat looks up the counts of at most 1000 topics; once all are sent, only of those that changed.
        """

        class Counts(dict[str, int]):
            asked = 0

            def get(self, topic: str, default: Any = None) -> Any:
                self.asked += 1
                return super().get(topic, default)

        server = Server()
        server.counts = counts = Counts({"*": 1, **{str(number): 1 for number in range(20_000)}})
        sent: dict[str, int] = {}
        while len(sent) < 20_001:
            counts.asked = 0
            server.turn()
            assert 0 < counts.asked <= 1000
            for each in self.sent_counts(server):
                sent |= each
            server.answer()
        server.clock.advance(2)
        server.answer()
        counts.asked = 0
        counts |= {"7": 2, "8": 1}
        del counts["9"]
        server.changed = {"*", "7", "8", "9", "unknown"}
        self.sent_counts(server)
        server.clock.advance(2)
        assert self.sent_counts(server) == [{"7": 2, "9": 0}]
        assert counts.asked == 5

    @pytest.mark.parametrize("expired", ["counts", "metadata"])
    def test_expired_data(self, expired: str) -> None:
        """
        If the server has expired a node's counts or metadata, the node sends all of them anew.
        """
        server = Server()
        server.cluster.put_metadata("a", "1")
        server.turn()
        server.answer()
        server.clock.advance(2)
        server.answer()
        server.clock.advance(2)
        assert [each for each in self.sent_counts(server)] == [{"*": 1}, {}, {}]
        server.had_data = [0, 1] if expired == "counts" else [1, 0]
        server.answer()
        server.clock.advance(2)
        assert server.asked[0][4] == 1
        assert server.sent_metadata() == [("a", "1")]
        server.had_data = [1, 1]
        server.answer()
        server.clock.advance(2)
        assert server.asked[0][4] == 0

    def test_metadata_not_sent_yet(self) -> None:
        """
        Missing metadata on the server does not make a node send all anew if it had not sent any.
        """
        server = Server()
        server.turn()
        server.answer()
        server.cluster.put_metadata("a", "1")
        server.had_data = [1, 0]
        for _ in range(2):
            server.clock.advance(2)
            server.answer()
        assert [arguments[4] for arguments in server.asked] == [1, 0, 0]

    def test_nothing_to_expire(self) -> None:
        """
        A node without counts and metadata sends heartbeats that do not replace its data.
        """
        server = Server()
        server.counts = {}
        server.had_data = [0, 0]
        for _ in range(3):
            server.clock.advance(2)
            server.answer()
        assert [arguments[4] for arguments in server.asked] == [1, 0, 0]

    def test_listener_that_fails(self, failures: list[LogEvent]) -> None:
        """
        If the hub raises an exception when asked for its counts, it is logged, and the node retries later.
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
        assert self.sent_counts(server) == [{"*": 1}]


class MissedMessagesTests:
    def beat(self, server: Server, *, was_alive: int, messages: int) -> int:
        """
        Let the node send a heartbeat, and return how often it has reported missed messages.
        """
        server.was_alive, server.messages = was_alive, messages
        server.clock.advance(2)
        server.answer()
        return server.missed

    def test_missed(self) -> None:
        """
        A node that did not count as alive while messages were sent notifies its listener, once.
        """
        server = Server()
        assert self.beat(server, was_alive=0, messages=7) == 0
        assert self.beat(server, was_alive=1, messages=8) == 0
        assert self.beat(server, was_alive=0, messages=8) == 0
        assert self.beat(server, was_alive=0, messages=9) == 1
        assert self.beat(server, was_alive=1, messages=9) == 1
        assert self.beat(server, was_alive=1, messages=10) == 1

    def test_server_lost_its_data(self) -> None:
        """
        If the server has lost the number of messages, the node may have missed some.
        """
        server = Server()
        self.beat(server, was_alive=0, messages=7)
        assert self.beat(server, was_alive=0, messages=0) == 1

    def test_listener_that_fails(self, failures: list[LogEvent]) -> None:
        """
        If the listener raises when it is notified, that is logged, and heartbeats continue.
        """
        server = Server()
        self.beat(server, was_alive=0, messages=7)
        server.missed = None  # type: ignore[assignment]
        self.beat(server, was_alive=0, messages=8)
        assert [event["log_failure"].type for event in failures] == [TypeError]
        before = len(server.asked)
        server.missed = 0
        assert self.beat(server, was_alive=0, messages=9) == 1
        assert len(server.asked) > before

    def test_stopped(self) -> None:
        """
        A node that has been stopped notifies no listener.
        """
        server = Server()
        self.beat(server, was_alive=0, messages=7)
        server.clock.advance(2)
        server.cluster.stop()
        server.messages, server.was_alive = 8, 0
        server.answer()
        assert server.missed == 0


class MetadataTests:
    def test_sent(self) -> None:
        """
        Changed metadata is sent once, with its latest text; a deleted text is sent empty.
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
        assert server.sent_metadata() == [("a", "2", "b", "3"), ("a", "", "unknown", "")]
        server.answer()
        server.clock.advance(60)
        assert server.sent_metadata() == []

    def test_before_it_joins(self) -> None:
        """
        Metadata put before the first heartbeat is sent after it, because it deletes older metadata.
        """
        server = Server()
        server.cluster.put_metadata("a", "1")
        server.cluster.send_metadata()
        assert server.asked == []
        server.turn()
        assert [command for command, *_ in server.asked] == ["heartbeat", "put_metadata"]
        assert server.asked[0][4] == 1
        assert server.sent_metadata() == [("a", "1")]

    def test_many(self) -> None:
        """
        One command sends at most 100 texts of metadata.
        """
        server = Server()
        server.turn()
        for number in range(250):
            server.cluster.put_metadata(str(number), "x")
        server.cluster.send_metadata()
        sent = server.sent_metadata()
        assert [len(each) // 2 for each in sent] == [100, 100, 50]
        assert [name for each in sent for name in each[::2]] == list(map(str, range(250)))

    def test_many_anew(self) -> None:
        """
        When all metadata is sent anew, at most 1000 texts are sent per turn; changed ones do not wait for
        them.
        """
        server = Server()
        for number in range(2500):
            server.cluster.put_metadata(str(number), "x")
        server.turn()
        assert len(server.sent_metadata()) == 10
        server.cluster.put_metadata("2400", None)
        server.cluster.put_metadata("2500", "y")
        server.cluster.send_metadata()
        assert server.sent_metadata() == [("2400", "", "2500", "y")]
        server.turn()
        server.turn()
        later = [name for each in server.sent_metadata() for name in each[::2]]
        assert later == [str(number) for number in range(1000, 2500) if number != 2400]
        assert len(server.clock.getDelayedCalls()) == 0

    def test_stopped_while_many_are_sent(self) -> None:
        """
        A node that stops, or loses its server, sends no more of its metadata.
        """
        for end in (
            lambda server: server.cluster.stop(),
            lambda server: setattr(server, "is_unavailable", True),
        ):
            server = Server()
            for number in range(2500):
                server.cluster.put_metadata(str(number), "x")
            server.turn()
            server.sent_metadata()
            end(server)
            server.turn()
            server.turn()
            assert len(server.sent_metadata()) <= 1

    @pytest.mark.parametrize("failing", ["heartbeat", "put_metadata"])
    def test_outage(self, failing: str) -> None:
        """
        After a heartbeat or metadata command failed, a node sends its current metadata anew.
        """
        server = Server()
        server.turn()
        server.answer()
        server.cluster.put_metadata("a", "1")
        server.cluster.put_metadata("b", "2")
        server.cluster.send_metadata()
        server.answer()
        server.is_unavailable = True
        if failing == "heartbeat":
            server.clock.advance(2)
        else:
            server.cluster.put_metadata("b", "3")
            server.cluster.send_metadata()
        server.sent_metadata()
        server.cluster.put_metadata("a", None)
        server.cluster.put_metadata("c", "4")
        server.cluster.send_metadata()
        assert server.sent_metadata() == []
        server.is_unavailable = False
        server.clock.advance(2)
        assert [arguments[4] for arguments in server.asked if arguments[0] == "heartbeat"] == [1]
        assert server.sent_metadata() == [("b", "2" if failing == "heartbeat" else "3", "c", "4")]
        server.cluster.put_metadata("d", "5")
        server.cluster.send_metadata()
        assert server.sent_metadata() == [("d", "5")]
