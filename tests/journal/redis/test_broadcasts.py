"""
Tests of messages to all nodes, with a fake server and with a real Redis.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogEvent

from tests.hub.fakes import outcome_of
from tests.journal.journals import Follower, Subject, silence
from tests.journal.redis_server import RedisServer
from tests.waiting import until
from txsse import JournalFailed, NotAcknowledged
from txsse._randomness import system_randomness
from txsse.journal.redis import cluster as cluster_module
from txsse.journal.redis.broadcasts import Broadcasts


class Server:
    """
    A fake server, which records commands, and replies as the test sets it.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.answers: dict[str, Any] = {"broadcast": [b"me", b"other"]}
        self.clock = Clock()
        self.listener = Follower()
        self.broadcasts = Broadcasts(self.run, "me", lambda: (7000, 10), system_randomness())

    def run(self, command: str, *arguments: Any) -> Deferred[Any]:
        self.asked.append((command, *arguments))
        answer = self.answers.get(command)
        if isinstance(answer, Deferred):
            return answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)

    def send(self, deadline: float = 10.0) -> tuple[str, list[Any]]:
        """
        Send a message; return its token, and a list that receives its outcome.
        """
        outcome = outcome_of(self.broadcasts.send("hello", deadline, self.clock))
        return [each[4] for each in self.asked if each[0] == "broadcast"][-1], outcome

    def acknowledge(self, token: str, *nodes: str, failed: bool = False, reply: str | None = None) -> None:
        flat = [b"token", token.encode(), b"from", b"", b"failed", b"%d" % failed]
        if reply is not None:
            flat += [b"reply", reply.encode()]
        entries = [(b"1-1", [*flat[:3], node.encode(), *flat[4:]]) for node in nodes]
        self.broadcasts.receive(entries, self.listener)

    def receive(self, *tokens: str, id: bytes = b"2-1") -> None:
        entries = [(id, [b"message", b"hi", b"token", each.encode(), b"from", b"other"]) for each in tokens]
        self.broadcasts.receive(entries, self.listener)

    def commands(self, name: str) -> list[tuple[Any, ...]]:
        return [arguments for command, *arguments in self.asked if command == name]  # type: ignore[misc]


@pytest.fixture
def played() -> Server:
    return Server()


class SendTests:
    def test_acknowledged(self, played: Server) -> None:
        """
        A broadcast's Deferred fires when the last node has acknowledged the message.
        """
        token, outcome = played.send()
        assert played.broadcasts.are_pending
        played.acknowledge(token, "me")
        assert outcome == []
        played.acknowledge(token, "other")
        assert outcome == [[]]
        assert not played.broadcasts.are_pending
        assert played.clock.getDelayedCalls() == []
        assert played.commands("received") == [["me", b"1-1"]] * 2
        played.acknowledge(token, "other")

    def test_replies(self, played: Server) -> None:
        """
        A broadcast's Deferred fires with the replies of the nodes that replied, an empty one included.
        """
        token, outcome = played.send()
        played.acknowledge(token, "me", reply="")
        played.acknowledge(token, "other", reply="7 ü")
        assert [sorted(replies) for replies in outcome] == [["", "7 ü"]]

    def test_acknowledged_before_the_reply(self, played: Server) -> None:
        """
        A broadcast succeeds even if acknowledgements arrive before the server's list of nodes.
        """
        played.answers["broadcast"] = Deferred()
        token, outcome = played.send()
        played.acknowledge(token, "other", "me")
        played.broadcasts.keep([b"other"])
        assert outcome == []
        played.answers["broadcast"].callback([b"other", b"me"])
        assert outcome == [[]]

    def test_node_that_ended(self, played: Server) -> None:
        """
        A broadcast does not wait for the acknowledgement of a node that is no longer alive.
        """
        token, outcome = played.send()
        played.acknowledge(token, "me")
        played.broadcasts.keep([b"other", b"new"])
        assert outcome == []
        played.broadcasts.keep([b"new"])
        assert outcome == [[]]

    def test_node_that_failed(self, played: Server) -> None:
        """
        A broadcast fails after all nodes have replied, and its error names the node that failed.
        """
        token, outcome = played.send()
        played.acknowledge(token, "other", failed=True)
        assert outcome == []
        played.acknowledge(token, "me")
        (error,) = outcome
        assert isinstance(error, NotAcknowledged)
        assert error.nodes == ["other"]

    def test_deadline(self, played: Server) -> None:
        """
        At its deadline a broadcast fails, and names the nodes that have not acknowledged it.
        """
        token, outcome = played.send(3.0)
        played.acknowledge(token, "me")
        played.clock.advance(2.9)
        assert outcome == []
        played.clock.advance(0.1)
        (error,) = outcome
        assert isinstance(error, NotAcknowledged) and error.nodes == ["other"]
        assert str(error) == "nodes have not acknowledged a message: other; see their logs"

    def test_no_reply_by_the_deadline(self, played: Server) -> None:
        """
        A broadcast without a reply of the server by the deadline fails as uncertain.
        """
        played.answers["broadcast"] = Deferred()
        _, outcome = played.send(3.0)
        played.clock.advance(3)
        (error,) = outcome
        assert isinstance(error, JournalFailed) and error.uncertain
        played.answers["broadcast"].callback([b"me"])

    def test_refused(self, played: Server) -> None:
        """
        If the server refuses a broadcast, it fails with the server's error.
        """
        played.answers["broadcast"] = JournalFailed("x", "is out of memory")
        _, outcome = played.send()
        assert outcome == [played.answers["broadcast"]]
        assert played.clock.getDelayedCalls() == []

    def test_server_lost(self, played: Server) -> None:
        """
        When the server is lost, all broadcasts that wait for acknowledgements fail.
        """
        error = JournalFailed("x", "is lost", uncertain=True)
        outcomes = [played.send()[1] for _ in range(2)]
        played.broadcasts.lose(lambda: error)
        assert outcomes == [[error]] * 2
        assert played.clock.getDelayedCalls() == []

    def test_cancelled(self, played: Server) -> None:
        """
        A caller can cancel a broadcast, which leaves no delayed call.
        """
        done = played.broadcasts.send("hello", 10.0, played.clock)
        outcome = outcome_of(done)
        done.cancel()
        assert isinstance(outcome[0], CancelledError)
        assert played.clock.getDelayedCalls() == []
        assert not played.broadcasts.are_pending

    def test_cancelled_before_it_fails(self, played: Server) -> None:
        """
        A broadcast that the caller has cancelled ignores a later failure of the command.
        """
        played.answers["broadcast"] = answer = Deferred[Any]()
        done = played.broadcasts.send("hello", 10.0, played.clock)
        outcome = outcome_of(done)
        done.cancel()
        answer.errback(JournalFailed("redis", "lost"))
        assert [type(each) for each in outcome] == [CancelledError]
        assert played.clock.getDelayedCalls() == []


class ReceiveTests:
    def test_once(self, played: Server) -> None:
        """
        A message that is read again, as its acknowledgement was lost, is acknowledged but not received again.
        """
        played.answers["acknowledge"] = JournalFailed("x", "is lost")
        played.receive("a", "a")
        played.broadcasts.read_again()
        assert played.broadcasts.cursor == 0
        del played.answers["acknowledge"]
        played.receive("a")
        assert played.listener.messages == ["hi"]
        sent = played.commands("acknowledge")
        assert sent == [[7000, 10, "me", b"2-1", b"other", b"a", 0, 0, ""]] * len(sent)
        assert len(sent) == 3
        assert played.broadcasts.cursor == (2 << 64) + 1

    def test_listener_not_done(self, played: Server) -> None:
        """
        A message is acknowledged once, when the listener's Deferred fires, even if it is read again before.
        """
        done: Deferred[str | None] = Deferred()
        played.listener.message_received = lambda message: done  # type: ignore[method-assign]
        played.receive("a")
        played.receive("a")
        assert played.commands("acknowledge") == []
        done.callback(None)
        assert len(played.commands("acknowledge")) == 1

    def test_listener_that_fails(self, played: Server, failures: list[LogEvent]) -> None:
        """
        If a node's listener raises an exception, the sender is notified, and the traceback is logged.
        """

        def raising(message: str) -> None:
            raise ZeroDivisionError

        played.listener.message_received = raising  # type: ignore[method-assign]
        played.receive("a")
        assert played.commands("acknowledge") == [[7000, 10, "me", b"2-1", b"other", b"a", 1, 0, ""]]
        assert [event["log_failure"].type for event in failures] == [ZeroDivisionError]

    def test_reply(self, played: Server) -> None:
        """
        The acknowledgement of a message has the reply of the listener.
        """
        played.listener.message_received = lambda message: "7"  # type: ignore[method-assign]
        played.receive("a")
        assert played.commands("acknowledge") == [[7000, 10, "me", b"2-1", b"other", b"a", 0, 1, "7"]]

    def test_reply_that_is_too_long(self, played: Server, failures: list[LogEvent]) -> None:
        """
        A listener whose reply is longer than allowed has failed.
        """
        played.listener.message_received = lambda message: "x" * 1025  # type: ignore[method-assign]
        played.receive("a")
        assert played.commands("acknowledge") == [[7000, 10, "me", b"2-1", b"other", b"a", 1, 0, ""]]
        assert [event["log_failure"].type for event in failures] == [ValueError]

    def test_foreign_entry(self, played: Server) -> None:
        """
        An entry that no node has added to an inbox is removed from it.
        """
        played.answers["received"] = JournalFailed("x", "is lost")
        played.broadcasts.receive([(b"3-1", [b"token", b"\xff", b"a", b"b"])], played.listener)
        assert played.commands("received") == [["me", b"3-1"]]


async def started(new: Callable[..., Subject], count: int) -> tuple[list[Subject], list[Follower]]:
    """
    Start nodes that know each other.
    """
    subjects = [new() for _ in range(count)]
    followers = [await subject.start() for subject in subjects]
    for follower in followers:
        follower.counts = {"*": 1}
    for subject in subjects:
        await until(partial(subject.journal.cluster.count_subscribers, "*"), (count - 1).__eq__)
    return subjects, followers


@pytest.fixture
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "_INTERVAL", 0.1)


@pytest.mark.usefixtures("_fast")
class RedisTests:
    @pytest_twisted.ensureDeferred
    async def test_all_nodes(self, new: Callable[..., Subject]) -> None:
        """
        With a real Redis, each of three nodes receives each message once; the slowest delays its success.
        """
        subjects, followers = await started(new, 3)
        slow: Deferred[str | None] = Deferred()
        received = followers[2].message_received
        followers[2].message_received = lambda message: received(message) or slow  # type: ignore[method-assign]
        outcomes = [outcome_of(subject.journal.cluster.broadcast("to all ü")) for subject in subjects]
        await until(lambda: all(len(follower.messages) == 3 for follower in followers))
        assert outcomes == [[], [], []]
        slow.callback(None)
        await until(lambda: outcomes == [[[]]] * 3)
        await subjects[0].append("1")
        assert [follower.messages for follower in followers] == [["to all ü"] * 3] * 3

    @pytest_twisted.ensureDeferred
    async def test_just_started(self, new: Callable[..., Subject]) -> None:
        """
        A node that has just started receives its own broadcast.
        """
        subject = new()
        follower = await subject.start()
        await subject.journal.cluster.broadcast("a")
        assert follower.messages == ["a"]

    @pytest_twisted.ensureDeferred
    async def test_node_that_died(self, new: Callable[..., Subject]) -> None:
        """
        A broadcast stops waiting for a node when its heartbeats have stopped.
        """
        subjects, followers = await started(new, 2)
        followers[1].message_received = lambda message: Deferred()  # type: ignore[method-assign]
        outcome = outcome_of(subjects[0].journal.cluster.broadcast("a"))
        await until(lambda: followers[0].messages == ["a"])
        assert outcome == []
        silence(subjects[1])
        await until(lambda: outcome == [[]])

    @pytest_twisted.ensureDeferred
    async def test_connection_lost(self, new: Callable[..., Subject]) -> None:
        """
        A node that loses its connection while its listener works receives the message once.
        """
        subjects, followers = await started(new, 2)
        slow: Deferred[str | None] = Deferred()
        received = followers[1].message_received
        followers[1].message_received = lambda message: received(message) or slow  # type: ignore[method-assign]
        outcome = outcome_of(subjects[0].journal.cluster.broadcast("a"))
        await until(lambda: followers[1].messages == ["a"])
        first = subjects[1].journal._script.session
        first.cut()
        slow.callback(None)
        await until(lambda: subjects[1].journal._script.session not in (None, first))
        await until(lambda: outcome == [[]])
        assert followers[1].messages == ["a"]

    @pytest_twisted.ensureDeferred
    async def test_server_lost(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A broadcast fails as uncertain when Redis is lost; once it is back, broadcasts succeed.
        """
        subjects, followers = await started(new, 2)
        followers[1].message_received = lambda message: Deferred()  # type: ignore[method-assign]
        cluster = subjects[0].journal.cluster
        outcome = outcome_of(cluster.broadcast("a"))
        await until(lambda: followers[0].messages == ["a"])
        server.kill()
        await until(lambda: bool(outcome))
        assert isinstance(outcome[0], JournalFailed) and outcome[0].uncertain
        with pytest.raises(JournalFailed):
            await cluster.broadcast("b")
        server.start()
        await until(lambda: subjects[0].journal.problem is None)
        del followers[1].message_received  # type: ignore[method-assign]
        await cluster.broadcast("c")
        assert followers[0].messages[-1] == "c"

    @pytest_twisted.ensureDeferred
    async def test_full_inbox(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        A node with a full inbox receives no further message, and the sender's error names it.
        """
        subjects, followers = await started(new, 2)
        node = subjects[1].journal.cluster.node
        followers[1].message_received = lambda message: Deferred()  # type: ignore[method-assign]
        fill = "for _ = 1, 1000 do redis.call('XADD', KEYS[1], '*', 'message', 'x', 'token', 'y') end"
        server.ask("EVAL", fill, "1", f"{{txsse}}:nodes:{node}:inbox")
        with pytest.raises(NotAcknowledged) as raised:
            await subjects[0].journal.cluster.broadcast("a", deadline=0.5)
        assert raised.value.nodes == [node]
        assert ":1000" in (server.ask("XLEN", f"{{txsse}}:nodes:{node}:inbox") or "")

    @pytest_twisted.ensureDeferred
    async def test_nothing_remains(self, server: RedisServer, new: Callable[..., Subject]) -> None:
        """
        Acknowledged messages are removed from inboxes, and the inboxes of stopped nodes are deleted.
        """
        subjects, _ = await started(new, 2)
        for number in range(20):
            await subjects[number % 2].journal.cluster.broadcast(str(number))
        inboxes = [f"{{txsse}}:nodes:{subject.journal.cluster.node}:inbox" for subject in subjects]
        await until(lambda: [server.ask("XLEN", inbox) for inbox in inboxes] == [":0\r\n"] * 2)
        for subject in subjects:
            await subject.journal.stop()
        assert server.ask("KEYS", "*inbox*") == "*0\r\n"

    @pytest_twisted.ensureDeferred
    async def test_stopped(self, new: Callable[..., Subject]) -> None:
        """
        When a node is stopped, its pending broadcast fails, and so do new ones.
        """
        subjects, followers = await started(new, 2)
        followers[1].message_received = lambda message: Deferred()  # type: ignore[method-assign]
        cluster = subjects[0].journal.cluster
        outcome = outcome_of(cluster.broadcast("a"))
        await cluster.stop()
        assert isinstance(outcome[0], JournalFailed)
        await cluster.stop()
        with pytest.raises(JournalFailed, match="not started"):
            await cluster.broadcast("b")
