"""
The list of revoked tokens in Redis, which all nodes share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from zope.interface import implementer

from txsse._waiters import Waiters
from txsse.errors import TooManyRevocations
from txsse.journal.redis.replies import Reply, as_number, as_scanned, malformed
from txsse.journal.redis.script import Script
from txsse.journal.revocations import MAX_REVOCATIONS, IRevocations, Revocation

__all__ = ["RedisRevocations"]

T = TypeVar("T")

_log = Logger()

# About how many revocations one command reads, so that no command blocks the server for long.
_PAGE_COUNT = 1000

# A byte that UTF-8 never contains.
_SEPARATOR = b"\xff"


@implementer(IRevocations)
class RedisRevocations:
    """
    Revocations on the server of a journal.

    :param journal: the journal, for the log.
    :param script: its script.
    :param now: returns the server's time, in seconds since 1970.
    :param max_count: the maximum number of revocations whose tokens have not expired.
    """

    def __init__(
        self, journal: object, script: Script, now: Callable[[], float], *, max_count: int = MAX_REVOCATIONS
    ) -> None:
        self._journal = journal
        self._script = script
        self._now = now
        self._max_count = max_count
        self._outstanding = 0
        self._settled = Waiters[None]()
        self._has_logged = False

    def add(self, revocation: Revocation) -> Deferred[None]:
        """
        Record a revocation, in one command that also removes some of those that have expired.
        """
        if self._script.session is None:
            return fail(self._script.unreachable())
        field = _SEPARATOR.join((revocation.claim.encode(), revocation.value.encode()))
        # repr: the shortest text that is read as the same number.
        times = repr(revocation.at), repr(revocation.expires)
        self._outstanding += 1
        ran = self._script.run("revoke", repr(self._now()), field, *times, self._max_count)
        ran.addBoth(self._has_ended)
        return ran.addCallback(self._has_added)

    def load(self) -> Deferred[list[Revocation]]:
        """
        Return the revocations whose tokens have not expired. They are read page by page.
        """
        return Deferred.fromCoroutine(self._load())

    async def settle(self) -> None:
        """
        Wait until the added ones are recorded.
        """
        while self._outstanding:
            await self._settled.wait()

    def _has_ended(self, result: T) -> T:
        self._outstanding -= 1
        if not self._outstanding:
            self._settled.fire(None)
        return result

    def _has_added(self, reply: Reply) -> None:
        if not as_number(reply):
            raise TooManyRevocations(self._max_count)

    async def _load(self) -> list[Revocation]:
        if self._script.session is None:
            raise self._script.unreachable()
        found: dict[bytes, Revocation | None] = {}
        cursor = b"0"
        # All pages are of one session: the next one is asked for as soon as a reply arrives. Another server
        # would not know the cursor.
        while True:
            reply = await self._script.run("revocations", repr(self._now()), cursor, _PAGE_COUNT)
            # A field that changes during the scan may be returned twice.
            cursor, page = as_scanned(reply)
            # Decoded page by page: 100,000 at once would take half a second of the reactor.
            found.update((field, _decode(field, value)) for field, value in page)
            if len(found) > 2 * self._max_count:
                raise malformed(f"at most {self._max_count} revocations", reply)
            if cursor == b"0":
                return self._current(found.values())

    def _current(self, found: Iterable[Revocation | None]) -> list[Revocation]:
        now = self._now()
        current: list[Revocation] = []
        for revocation in found:
            if revocation is None:
                self._found_damaged()
            elif revocation.expires > now:
                current.append(revocation)
        return current

    def _found_damaged(self) -> None:
        if not self._has_logged:
            self._has_logged = True
            _log.error(
                "{journal}: records of revoked tokens are damaged and are skipped; revoke again the tokens "
                "that must not be accepted",
                journal=self._journal,
            )


def _decode(field: bytes, value: bytes) -> Revocation | None:
    """
    Return the revocation in a field of the hash; ``None`` if it is damaged.
    """
    times, _, checksum = value.rpartition(b" ")
    # The script computes it, too, so it is one that Lua has.
    if hashlib.sha1(field + b" " + times).hexdigest()[:16].encode() != checksum:
        return None
    try:
        claim, text = field.split(_SEPARATOR)
        at, expires = times.split(b" ")
        return Revocation(claim.decode(), text.decode(), float(at), float(expires))
    except ValueError:
        return None
