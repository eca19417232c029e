"""
Tests of a server that is no Redis, or whose replies a proxy has changed: each fails with a clear error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import hiredis
import pytest
import pytest_twisted
from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent

from tests.journal.journals import Follower, Subject, redis, update
from tests.waiting import until
from txsse import JournalFailed, NotAcknowledged
from txsse.journal.position import OLDEST
from txsse.journal.redis.replies import (
    as_bytes,
    as_entries,
    as_entry,
    as_entry_number,
    as_entry_numbers,
    as_list,
    as_list_of_bytes,
    as_number,
    as_numbers,
    as_scanned,
)
from txsse.journal.revocations import Revocation

JUNK: list[Any] = [
    None,
    7,
    b"",
    b"junk",
    [],
    [None],
    [7, 7],
    [b"junk", b"junk"],
    [b"junk", [b"junk"]],
    [[b"1-1", None], [[]]],
    [b"x", b"y", b"z"],
    [1, 1, []],
    [1, 1, [b"junk"]],
    [0, 0, [[b"1-1", [b"after"], b"more"]]],
    [0, 0, [[b"1-1", [b"after", 5]]]],
    [b"0-0", [None]],
    [b"0-0", [b"junk"]],
    [[b"{txsse}:updates", 5]],
    [[b"{txsse}:updates", [[b"1-1", 5]]]],
    [[b"{txsse}:updates", [b"1-1"]]],
    [[5, []]],
]


class NarrowTests:
    @pytest.mark.parametrize(
        ("narrow", "arguments", "reply", "result"),
        [
            (as_bytes, (), b"x", b"x"),
            (as_number, (), 5, 5),
            (as_list, (), [], []),
            (as_list, (2,), [1, b"x"], [1, b"x"]),
            (as_list_of_bytes, (), [b"x", b"y"], [b"x", b"y"]),
            (as_numbers, (2,), [1, 2], [1, 2]),
            (as_scanned, (), [b"0", [b"a", b"b"]], (b"0", [(b"a", b"b")])),
            (as_entry_number, (), b"0-5", 5),
            (as_entry_numbers, (2,), [b"0-5", b"1-0"], [5, 1 << 64]),
            (as_entries, (), [[b"1-1", []]], [[b"1-1", []]]),
            (as_entry, (), [b"1-1", [b"a", b"b"]], (b"1-1", [b"a", b"b"])),
        ],
    )
    def test_valid(self, narrow: Callable[..., object], arguments: Any, reply: Any, result: object) -> None:
        """
        A reply of the expected form is returned.
        """
        assert narrow(reply, *arguments) == result

    @pytest.mark.parametrize(
        ("narrow", "arguments", "reply", "said"),
        [
            (as_bytes, (), None, "NoneType in a reply instead of a string"),
            (as_number, (), b"1", "bytes in a reply instead of a number"),
            (as_list, (), b"x", "bytes in a reply instead of a list"),
            (as_list, (2,), [1], "list in a reply instead of a list of 2"),
            (as_list_of_bytes, (), [b"x", 5], "int in a reply instead of a string"),
            (as_numbers, (1,), [b"x"], "bytes in a reply instead of a number"),
            (as_scanned, (), [b"0", [b"a"]], "instead of fields with their values"),
            (as_scanned, (), [0, []], "int in a reply instead of a string"),
            (as_entry_number, (), b"x", "instead of the id of an entry"),
            (as_entry_number, (), b"1-x", "instead of the id of an entry"),
            (as_entry_numbers, (1,), [5], "instead of the ids of entries"),
            (as_entry_numbers, (1,), [[]], "instead of the ids of entries"),
            (as_entry_numbers, (1,), [b"x"], "instead of the ids of entries"),
            (as_entry_numbers, (2,), [b"1-1"], "list in a reply instead of a list of 2"),
            (as_entries, (), None, "NoneType in a reply instead of a list"),
            (as_entry, (), [b"1-1", [b"a", 5]], "int in a reply instead of a string"),
            (as_entry, (), [b"x", []], "instead of the id of an entry"),
            (as_list, (None,), None, "NoneType in a reply instead of a list"),
        ],
    )
    def test_malformed(self, narrow: Callable[..., object], arguments: Any, reply: Any, said: str) -> None:
        """
        The error for a reply of another form names both forms, but not the content, which may be private.
        """
        with pytest.raises(JournalFailed) as raised:
            narrow(reply, *arguments)
        assert said in raised.value.problem
        assert "check that the URL is that of a Redis server" in raised.value.problem
        # The server may have recorded what it was asked to.
        assert raised.value.uncertain


class FakeRedis(Factory):
    """
    A server that behaves as an empty Redis, except for one command, to which it replies with junk.
    """

    noisy = False

    def __init__(self) -> None:
        self.command: bytes | None = None
        self.junk: Any = None
        self.asked: set[bytes] = set()

    def buildProtocol(self, addr: object) -> FakeConnection:  # type: ignore[override]
        connection = FakeConnection()
        connection.factory = self
        return connection

    def reply(self, name: bytes, arguments: list[bytes]) -> Any:
        self.asked.add(name)
        if name == self.command:
            return self.junk
        return {
            b"ROLE": [b"master", 0, []],
            b"TIME": [b"1700000000", b"5"],
            b"XREVRANGE": [],
            b"secret": arguments[0] if arguments else b"",
            b"look": [b"0-0", b"0-0", None],
            b"retained": [b"0-0", b"0", []],
            b"heartbeat": [0, 0, 0, 0],
            b"other_nodes": [b"other"],
        }.get(name)


class FakeConnection(Protocol):
    factory: FakeRedis

    def connectionMade(self) -> None:
        self.reader = hiredis.Reader()

    def dataReceived(self, data: bytes) -> None:
        self.reader.feed(data)
        while (command := self.reader.gets()) is not False:
            name, arguments = command[0], command[1:]
            if name == b"EVALSHA":
                start = 2 + int(command[2]) + 1
                name, arguments = command[start], command[start + 1 :]
            delay = 0.05 if name == b"XREAD" else 0.0
            reply = encoded(self.factory.reply(name, arguments))
            deferLater(reactor, delay, self.send, reply)

    def send(self, reply: bytes) -> None:
        if self.connected and self.transport is not None:
            self.transport.write(reply)


def encoded(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))


async def outcome_of(work: Awaitable[object]) -> object:
    try:
        return await work
    except Exception as error:
        return error


async def begun(server: FakeRedis) -> tuple[Subject, Any]:
    port = await endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(server)
    subject = redis(f"redis://127.0.0.1:{port.getHost().port}", timeout=2.0)  # type: ignore[attr-defined]
    return subject, port


class HostileTests:
    @pytest.mark.parametrize("command", [b"ROLE", b"TIME", b"secret", b"look", b"XREVRANGE", b"retained"])
    @pytest_twisted.ensureDeferred
    async def test_start(self, command: bytes) -> None:
        """
        A journal does not start with a server that replies with anything; its error is a clear one.
        """
        server = FakeRedis()
        subject, port = await begun(server)
        server.command = command
        for server.junk in JUNK:
            problem = await outcome_of(subject.start())
            if problem is None or isinstance(problem, Follower):
                # A secret may be any text, and a record may be empty.
                assert (command, server.junk) in [
                    (b"secret", b""),
                    (b"secret", b"junk"),
                    (b"XREVRANGE", []),
                ] or command == b"look"
                await subject.journal.stop()
                continue
            assert isinstance(problem, JournalFailed), (server.junk, problem)
            assert str(subject.journal.problem) == str(problem)
        assert command in server.asked
        await port.stopListening()

    @pytest_twisted.ensureDeferred
    async def test_sentinel(self) -> None:
        """
        If a sentinel replies with anything but an address, the journal does not start, with a clear error.
        """
        server = FakeRedis()
        _, port = await begun(server)
        server.command = b"SENTINEL"
        url = f"redis+sentinel://127.0.0.1:{port.getHost().port}/main"
        for server.junk in [*JUNK, [b"\xff", b"1"], [b"localhost", b"port"]]:
            problem = await outcome_of(redis(url, timeout=2.0).start())
            assert isinstance(problem, JournalFailed), (server.junk, problem)
        assert server.asked == {b"SENTINEL"}
        await port.stopListening()

    @pytest.mark.parametrize("junk", JUNK, ids=str)
    @pytest_twisted.ensureDeferred
    async def test_commands(self, junk: Any, failures: list[LogEvent]) -> None:
        """
        A command to which the server replies with anything has a result or fails with a clear error.
        """
        server = FakeRedis()
        subject, port = await begun(server)
        await subject.start()
        journal = subject.journal
        server.junk = junk
        commands: dict[bytes, Callable[[], Awaitable[object]]] = {
            b"append": lambda: journal.append(update("1")),
            b"append_many": lambda: journal.append_many([update("2"), update("3")]),
            b"find": lambda: journal.find("unknown"),
            b"at": lambda: journal._reader.at(5),
            b"read": lambda: journal._reader.read(OLDEST),
            b"tidy": lambda: journal._tidy_now(),
            b"count_subscribers": lambda: journal.cluster.count_subscribers("news"),
            b"other_nodes": lambda: journal.cluster.metadata("a"),
            b"metadata_of": lambda: journal.cluster.metadata("a"),
            b"metadata": lambda: journal.cluster.metadata("a"),
            b"broadcast": lambda: journal.cluster.broadcast("hello", deadline=0.2),
            b"revoke": lambda: journal.revocations.add(Revocation("jti", "1", 0, 1)),
            b"revocations": lambda: journal.revocations.load(),
        }
        for server.command, work in commands.items():
            outcome = await outcome_of(work())
            # Junk may be the names of nodes.
            clear = NotAcknowledged if server.command == b"broadcast" else JournalFailed
            is_clear = isinstance(outcome, JournalFailed | clear) or not isinstance(outcome, Exception)
            assert is_clear, (server.command, outcome)
            if server.command == b"count_subscribers":
                assert isinstance(outcome, int | JournalFailed)
            assert server.command in server.asked
        await journal.stop()
        await port.stopListening()
        assert failures == []

    @pytest.mark.parametrize("junk", JUNK, ids=str)
    @pytest_twisted.ensureDeferred
    async def test_stream(self, junk: Any) -> None:
        """
        If the server sends anything as entries of a stream, the journal has a problem until it sends entries.
        """
        server = FakeRedis()
        subject, port = await begun(server)
        await subject.start()
        server.command, server.junk = b"XREAD", junk
        server.asked.clear()
        await until(lambda: b"XREAD" in server.asked)
        if junk not in (None, []):
            await until(lambda: subject.journal.problem is not None)
        server.command = None
        await until(lambda: subject.journal.problem is None)
        await subject.journal.stop()
        await port.stopListening()

    @pytest.mark.parametrize("junk", JUNK, ids=str)
    @pytest_twisted.ensureDeferred
    async def test_heartbeat(self, junk: Any) -> None:
        """
        If the server replies to a heartbeat with anything, the node sends all of its data anew.
        """
        server = FakeRedis()
        server.command, server.junk = b"heartbeat", junk
        subject, port = await begun(server)
        await subject.start()
        await until(lambda: b"heartbeat" in server.asked)
        await until(lambda: subject.journal.cluster._anew)
        await subject.journal.stop()
        await port.stopListening()
