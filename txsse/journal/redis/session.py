"""
A session: two connections to a Redis server, one for commands and one that follows the stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txsse.journal.redis.connection import Connection, connect
from txsse.journal.redis.replies import (
    Argument,
    Reply,
    StreamEntry,
    as_bytes,
    as_entries,
    as_entry,
    as_entry_number,
    as_list,
    malformed,
)
from txsse.journal.redis.stream_ids import to_text
from txsse.journal.redis.url import Server

__all__ = ["Session", "open_session"]

_SCRIPT = files("txsse.journal.redis").joinpath("script.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode()).hexdigest()

# The keys of the script, without the prefix, in its order.
_KEYS = "updates", "ids", "meta", "nodes", "revocations", "retained", "retained:by_expiry"


class Session:
    """
    The two connections. If the one for commands is lost, the other one is closed.

    :param commands: the connection for commands.
    :param following: the connection that waits for new entries.
    :param key: the prefix of the names of the keys.
    :param node: the name of this node.
    :param patience: how long the server waits for new entries before it replies that it has none, in seconds.
    """

    def __init__(
        self, commands: Connection, following: Connection, key: str, node: str, patience: float
    ) -> None:
        self.commands = commands
        self.following = following
        # In a Redis Cluster, the braces keep all keys in one hash slot.
        self._keys = [f"{{{key}}}:{name}" for name in _KEYS]
        self._inbox = f"{self._keys[3]}:{node}:inbox"
        self._patience = patience
        # The connection for commands may be lost alone, for example by CLIENT KILL.
        commands.when_lost.addCallback(lambda _: following.cut())

    def run(self, *arguments: Argument) -> Deferred[Reply]:
        """
        Run a command of the script.
        """
        return self.commands.ask("EVALSHA", _SHA, len(self._keys), *self._keys, *arguments)

    async def look(self, number: int) -> tuple[int, int, str | None]:
        """
        Return the newest entry ever stored, the entry up to which all are dropped, and the id of an update.

        :param number: the entry of this update. The id is ``None`` if the stream has no such entry.
        """
        last, floor, id = as_list(await self.run("look", to_text(number)), 3)
        there = None if id is None else as_bytes(id).decode("utf-8", "replace")
        return as_entry_number(last), as_entry_number(floor), there

    async def clock(self) -> float:
        """
        Return the server's time, in seconds.
        """
        reply = await self.commands.ask("TIME")
        try:
            seconds, microseconds = (int(as_bytes(each)) for each in as_list(reply, 2))
        except ValueError:
            raise malformed("the time", reply) from None
        return seconds + microseconds / 1e6

    async def wait_for_entries(
        self, after: int, inbox_after: int, count: int
    ) -> tuple[Sequence[StreamEntry], Sequence[StreamEntry]]:
        """
        Wait for the next entries of the record and of this node's inbox, and return both.

        If none arrive in time, both lists are empty.
        """
        milliseconds = max(1, int(self._patience * 1000))
        keys = self._keys[0], self._inbox
        found = await self.following.ask(
            *("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", *keys),
            *(to_text(after), to_text(inbox_after)),
        )
        streams: dict[bytes, Sequence[StreamEntry]] = {}
        for each in as_list(found) if found is not None else ():
            key, entries = as_list(each, 2)
            streams[as_bytes(key)] = as_entries(entries)
        return streams.get(keys[0].encode(), []), streams.get(keys[1].encode(), [])

    def entries_before(self, number: int, count: int) -> Deferred[Sequence[StreamEntry]]:
        """
        Return the entries up to a number, inclusive, the newest first.
        """
        asked = self.commands.ask("XREVRANGE", self._keys[0], to_text(number), "-", "COUNT", count)
        return asked.addCallback(lambda reply: [as_entry(each) for each in as_list(reply)])

    def cut(self) -> None:
        """
        Abort both connections.
        """
        self.commands.cut()
        self.following.cut()


async def open_session(
    server: Server, key: str, node: str, *, timeout: float, reactor: IReactorTime
) -> Session:
    """
    Open both connections, and load the script into the server.

    :param timeout: how long each reply may take, in seconds.
    :raises JournalFailed: if this fails.
    """
    commands = await connect(server, timeout=timeout, reactor=reactor)
    try:
        await commands.ask("SCRIPT", "LOAD", _SCRIPT)
        following = await connect(server, timeout=timeout, reactor=reactor)
    except BaseException:
        commands.cut()
        raise
    return Session(commands, following, key, node, timeout / 2)
