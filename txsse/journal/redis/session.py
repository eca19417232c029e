"""
Two connections to a Redis, one for commands and one that follows the stream, which begin and end together.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from txsse.journal.redis.connection import Connection, connect
from txsse.journal.redis.stream_ids import to_number, to_text
from txsse.journal.redis.url import Server

__all__ = ["Session", "open_session"]

_SCRIPT = files("txsse.journal.redis").joinpath("script.lua").read_text(encoding="utf-8")
_SHA = hashlib.sha1(_SCRIPT.encode()).hexdigest()


class Session:
    """
    The two connections.

    :param commands: the one for commands.
    :param following: the one that waits for what comes.
    :param key: what the names of the keys begin with.
    :param node: the name of this node.
    :param patience: how long to wait for what comes until the answer is that nothing did, in seconds.
    """

    def __init__(
        self, commands: Connection, following: Connection, key: str, node: str, patience: float
    ) -> None:
        self.commands = commands
        self.following = following
        # The braces would keep the keys together in a cluster.
        self._keys = [f"{{{key}}}:{name}" for name in ("updates", "ids", "meta", "nodes")]
        self._inbox = f"{self._keys[-1]}:{node}:inbox"
        self._patience = patience
        # That of the commands may be lost alone, where somebody kills it.
        commands.when_lost.addCallback(lambda _: following.cut())

    def run(self, *arguments: str | bytes | int) -> Deferred[Any]:
        """
        Run a command of the script.
        """
        return self.commands.ask("EVALSHA", _SHA, len(self._keys), *self._keys, *arguments)

    async def look(self, number: int) -> tuple[int, int, str | None]:
        """
        Return the newest entry there ever was, that up to which all are given up, and the id at a number.
        """
        last, floor, id = await self.run("look", to_text(number))
        return to_number(last), to_number(floor), None if id is None else id.decode("utf-8", "replace")

    async def clock(self) -> float:
        """
        Return the time, in seconds.
        """
        seconds, microseconds = await self.commands.ask("TIME")
        return int(seconds) + int(microseconds) / 1e6

    async def wait_for_entries(self, after: int, inbox_after: int, count: int) -> tuple[list[Any], list[Any]]:
        """
        Return the next entries of the record and of this node's inbox, or none, after a while.
        """
        milliseconds = max(1, int(self._patience * 1000))
        keys = self._keys[0], self._inbox
        found = await self.following.ask(
            *("XREAD", "COUNT", count, "BLOCK", milliseconds, "STREAMS", *keys),
            *(to_text(after), to_text(inbox_after)),
        )
        streams = dict(found or ())
        return streams.get(keys[0].encode(), []), streams.get(keys[1].encode(), [])

    def entries_before(self, number: int, count: int) -> Deferred[list[Any]]:
        """
        Return the entries up to a number, the newest first.
        """
        return self.commands.ask("XREVRANGE", self._keys[0], to_text(number), "-", "COUNT", count)

    def cut(self) -> None:
        """
        End it, at once.
        """
        self.commands.cut()
        self.following.cut()


async def open_session(
    server: Server, key: str, node: str, *, timeout: float, reactor: IReactorTime
) -> Session:
    """
    Begin a session.

    :param timeout: how long each answer may take, in seconds.
    :raises JournalFailed: where that cannot be.
    """
    commands = await connect(server, timeout=timeout, reactor=reactor)
    try:
        await commands.ask("SCRIPT", "LOAD", _SCRIPT)
        following = await connect(server, timeout=timeout, reactor=reactor)
    except BaseException:
        commands.cut()
        raise
    return Session(commands, following, key, node, timeout / 2)
