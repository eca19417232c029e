"""
The registry of a cluster in Redis.

Strategy: the server has a hash for each group, from a name to the node that is responsible for it and the
counts of the nodes that hold it; and for each node, the set of its names. A node sends one command at a time.
Changes that are made meanwhile are sent with the next one, so that many changes cost few commands. After a
lost connection, a node sends all of its names anew.

A node that has ended keeps its names at the server, until a heartbeat of another node reports them. That node
then takes them over, page by page.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import JournalFailed
from txsse.journal.keys import decode_name, encode_name
from txsse.journal.redis.replies import Reply, Run, as_bytes, as_list, as_number, as_numbers, malformed
from txsse.journal.registry import IRegistry, IRegistryListener, Name

__all__ = ["RedisRegistry"]

_log = Logger()

# How many names one command sends, or takes over.
_PAGE = 250

# About how many names the server scans in one command.
_SCAN = 1000

# The server's replies for a name.
_SAME, _NEW, _OVER, _LOST = range(4)


@implementer(IRegistry)
class RedisRegistry:
    """
    The names of a node.

    :param run: runs a command of the journal's script. Its Deferred may fail.
    :param node: the name of the node.
    :param now: returns the time of the server, in milliseconds.
    """

    def __init__(self, run: Run, node: str, now: Callable[[], int]) -> None:
        self._run = run
        self._node = node
        self._now = now
        self._listener: IRegistryListener | None = None
        self._counts: dict[Name, int] = {}
        # The names that the server may know of this node: those that were sent.
        self._known: set[Name] = set()
        self._responsible: set[Name] = set()
        # The names to send.
        self._unsent: dict[Name, None] = {}
        self._is_connected = self._is_running = self._has_stopped = False
        # The work that is left when everything is sent: whether the last heartbeat reported names of ended
        # nodes, and names of this node that no node holds any more; and from where to compare the server's
        # names with ours.
        self._others_have_ended = self._some_are_over = False
        self._compare_from: bytes | int | None = None
        # Whether the server may have given this node names in a reply that was lost.
        self._may_lack_names = False
        self._failures = RateLimitedLog(_log)

    def listen(self, listener: IRegistryListener) -> None:
        """
        Notify a listener from now on: that of another hub, if the journal is started again.
        """
        self._listener = listener
        if self._has_stopped:
            self._counts.clear()
            self._known.clear()
            # The server may know names from before, which no other node has taken over.
            self._has_stopped, self._may_lack_names = False, True

    def put(self, counts: Mapping[Name, int | None]) -> None:
        """
        Hold names, or release them.
        """
        for name, count in counts.items():
            if count is not None:
                self._counts[name] = count
                self._unsent[name] = None
                continue
            self._counts.pop(name, None)
            if name in self._known or name in self._responsible:
                self._unsent[name] = None
            else:
                # It came and went while the server was out of reach, which may last for days.
                self._unsent.pop(name, None)
        self._work()

    def counts(self, group: str) -> Deferred[dict[Hashable, int]]:
        """
        Return the names of a group that other nodes hold.

        They are read page by page, so that no command blocks the server for long.
        """
        return Deferred.fromCoroutine(self._read_counts(group))

    def stop(self) -> None:
        """
        Be responsible for no name any more. Another node takes the names over.
        """
        self._has_stopped = True
        self._unsent.clear()
        responsible, self._responsible = self._responsible, set()
        for name in responsible:
            self._listening.no_longer_responsible(name, is_over=False)

    def disconnected(self) -> None:
        """
        Send nothing until the next heartbeat has been sent, and then all names anew.
        """
        self._is_connected = False

    def heartbeat_sent(self, *, was_alive: bool, others_have_ended: bool, some_are_over: bool) -> None:
        """
        Process what the server replied to a heartbeat.

        :param was_alive: whether the node counted as alive before; otherwise, others may have taken its
            names.
        :param others_have_ended: whether nodes that have ended still hold names.
        :param some_are_over: whether no node holds some of the names that this node is responsible for.
        """
        if self._has_stopped:
            return
        if not (self._is_connected and was_alive):
            # A node that registers names before its heartbeat would not count as alive.
            self._is_connected = True
            known = [*self._counts, *self._responsible, *self._unsent]
            self._compare_from = 0 if known or self._may_lack_names else None
            self._unsent = dict.fromkeys(known)
        self._others_have_ended = others_have_ended
        self._some_are_over = some_are_over
        self._work()

    @property
    def _listening(self) -> IRegistryListener:
        assert self._listener is not None
        return self._listener

    def _work(self) -> None:
        if not self._is_running and self._is_connected and not self._has_stopped:
            self._is_running = True
            Deferred.fromCoroutine(self._work_now()).addErrback(self._has_failed)

    async def _work_now(self) -> None:
        try:
            while self._is_connected and not self._has_stopped:
                if self._unsent:
                    await self._send(list(islice(self._unsent, _PAGE)))
                elif self._compare_from is not None:
                    await self._compare()
                elif self._some_are_over:
                    await self._end()
                elif self._others_have_ended:
                    await self._take_over()
                else:
                    return
        finally:
            self._is_running = False

    def _has_failed(self, failure: Failure) -> None:
        # The next heartbeat tries again. A lost session is reported by the journal.
        if not failure.check(JournalFailed):
            self._failures.failure("this node cannot register its names", failure)

    async def _send(self, names: Sequence[Name]) -> None:
        arguments: list[str | int] = []
        held = [name in self._counts for name in names]
        for name in names:
            del self._unsent[name]
            count = self._counts.get(name, "")
            arguments += [name[0], encode_name(name[1]), count, self._belief(name)]
            self._known.add(name)
        try:
            replies = as_numbers(await self._run("register", self._node, *arguments), len(names))
        except BaseException:
            self._unsent = dict.fromkeys([*names, *self._unsent])
            raise
        for name, reply, is_held in zip(names, replies, held, strict=True):
            if self._has_stopped:
                # Perhaps by the last notification.
                self._process_late(name, reply)
                continue
            if not is_held:
                self._known.discard(name)
            self._process(name, reply)

    def _belief(self, name: Name) -> int:
        """
        Return what this node believes: 2, it is responsible; 1, it holds the name already; 0, it did not.
        """
        return 2 if name in self._responsible else int(name in self._known)

    def _process(self, name: Name, reply: int) -> None:
        if reply == _NEW:
            self._begin(name, is_new=True)
        elif reply == _OVER or (reply == _LOST and name in self._responsible):
            self._responsible.discard(name)
            self._listening.no_longer_responsible(name, is_over=reply == _OVER)

    def _process_late(self, name: Name, reply: int) -> None:
        """
        Process a reply to what was sent before :meth:`stop`.

        No other node learns that the name was new, or that it is over.
        """
        if reply == _NEW:
            self._listening.became_responsible(name, is_new=True)
            self._listening.no_longer_responsible(name, is_over=False)
        elif reply == _OVER:
            self._listening.no_longer_responsible(name, is_over=True)

    def _begin(self, name: Name, *, is_new: bool) -> None:
        if name not in self._responsible:
            self._responsible.add(name)
            self._listening.became_responsible(name, is_new=is_new)

    async def _compare(self) -> None:
        """
        Learn of names that the server knows of this node, but whose replies were lost.
        """
        cursor, found = as_list(await self._run("names_of", self._node, self._compare_from or 0, _SCAN), 2)
        self._compare_from = None if cursor == b"0" else as_bytes(cursor)
        self._may_lack_names = self._compare_from is not None
        self._adopt(found)

    async def _take_over(self) -> None:
        """
        Take over some names of a node that has ended.
        """
        self._may_lack_names = True
        more, found = as_list(await self._run("take_over", self._now(), self._node, _PAGE), 2)
        self._may_lack_names = False
        self._others_have_ended = bool(more)
        self._adopt(found)

    def _adopt(self, found: Reply) -> None:
        for group, text, is_responsible, is_held in _in_groups(found, 4):
            if self._has_stopped:
                return
            name = _to_name(as_bytes(group), as_bytes(text))
            if name is None:
                continue
            if is_responsible:
                self._begin(name, is_new=False)
            if is_held and name not in self._known:
                self._known.add(name)
                if name not in self._counts and name not in self._unsent:
                    self._counts[name] = 0
                    self._listening.taken_over(name)
                else:
                    self._unsent[name] = None

    async def _end(self) -> None:
        """
        Learn which names no node holds any more, of those that this node is responsible for.
        """
        found = _in_groups(await self._run("names_over", self._node, _PAGE), 2)
        self._some_are_over = len(found) == _PAGE
        for group, text in found:
            name = _to_name(as_bytes(group), as_bytes(text))
            if name is not None and name not in self._counts:
                # The server forgets the name when this node releases it.
                self._unsent[name] = None

    async def _read_counts(self, group: str) -> dict[Hashable, int]:
        found: dict[Hashable, int] = {}
        cursor: bytes | int | None = None
        while cursor != b"0":
            next, page = as_list(await self._run("names", self._node, group, cursor or 0, _SCAN), 2)
            cursor = as_bytes(next)
            for text, count in _in_groups(page, 2):
                name = _to_name(b"", as_bytes(text))
                if name is not None:
                    found[name[1]] = as_number(count)
        return found


def _in_groups(reply: Reply, size: int) -> list[tuple[Reply, ...]]:
    """
    Return the elements of a list, in groups.

    :raises JournalFailed: if it is no list, or has too few elements.
    """
    flat = as_list(reply)
    if len(flat) % size:
        raise malformed(f"groups of {size}", reply)
    return list(zip(*[iter(flat)] * size, strict=True))


def _to_name(group: bytes, text: bytes) -> Name | None:
    """
    Return a name that the server has; ``None`` if it is damaged, or of a newer version.
    """
    try:
        return group.decode(), decode_name(text.decode())
    except ValueError:
        return None
