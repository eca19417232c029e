"""
The revoked tokens of a hub: kept with its journal, and known to all nodes.

Strategy: a revocation is recorded in the journal first, then sent to all nodes, each of which adds it to its
list in memory, and closes its streams. A second message, of the hub itself, closes those that were being
opened meanwhile.

A node reads the recorded revocations after it has joined its cluster. So a node that joins before a
revocation is sent receives it, and one that joins later reads it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._clock import wall
from txsse._rate_limited_log import RateLimitedLog
from txsse._waiters import SharedCall
from txsse.errors import HubStopped, JournalFailed, NotAcknowledged, TooManyRevocations
from txsse.hub.cut_off import disconnect
from txsse.hub.hub import Hub
from txsse.hub.subscriber import Subscriber
from txsse.journal.cluster import NoCluster
from txsse.journal.revocations import Revocation
from txsse.mercure.auth.grants import Grants
from txsse.mercure.auth.identity import stream_key
from txsse.mercure.auth.revoked import Revoked, RevokedTokens, covers
from txsse.mercure.errors import Unavailable

__all__ = ["NEVER", "Incomplete", "Outcome", "Revocations", "revocations_of"]

_log = Logger()
_failures = RateLimitedLog(_log)

#: The time of expiry of tokens that never expire, and the latest that can be written in a response: the end
#: of the year 9999, in seconds since 1970.
NEVER = 253402300799.0


# How many streams are closed before the reactor gets its turn: some 10 ms of work at 40 µs each.
_SLICE = 256

# How many recorded revocations are added to the list before the reactor gets its turn: some 5 ms of work.
_LOADED_SLICE = 2000


@dataclass(frozen=True)
class Outcome:
    """
    The result of a revocation.

    :ivar disconnected: how many streams were closed, at all nodes.
    :ivar until: until when the tokens are refused, in seconds since 1970.
    """

    disconnected: int
    until: float


class Incomplete(Unavailable):
    """
    A revocation has been carried out in part.
    """


class Revocations:
    """
    The revoked tokens of a hub.

    :param hub: the hub.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._revoked = RevokedTokens(lambda: wall(hub.reactor))
        self._loading: SharedCall[None] = SharedCall()
        self._is_complete = False
        # How often messages of other nodes may have been missed.
        self._missed = 0
        hub.node.add(self)

    @property
    def are_kept(self) -> bool:
        """
        Whether the hub's journal keeps revoked tokens.
        """
        return self._hub.revocations is not None

    async def check(self, grants: Grants) -> None:
        """
        Check that a token has not been revoked.

        :raises InvalidToken: if it has been.
        :raises Unavailable: until the list has been read once; and after this node was out of reach of the
            others, until it has been read again.
        :raises HubStopped: if that is so because the hub has been stopped.
        """
        if not self._is_complete:
            await self._complete()
        try:
            self._revoked.check(grants)
        except Revoked as refused:
            self._extend(refused.revocation, grants)
            raise

    async def revoke(self, revocation: Revocation) -> Outcome:
        """
        Refuse tokens from now on, and close their streams, at all nodes.

        If a step fails, the others are done nevertheless, and the whole can be repeated.

        :param revocation: the tokens. They are refused for longer if the token of an open stream expires
            later.
        :raises Incomplete: if a step fails. Its reason says what has been done, and what has not.
        """
        try:
            await self._hub.start()
        except (HubStopped, JournalFailed) as error:
            stops = isinstance(error, HubStopped)
            why = "the hub is shutting down" if stops else "the journal is unavailable"
            raise Incomplete(f"nothing has been done: {why}; try again later") from None
        problems: list[str] = []
        # This node needs no message, and does its part also if it can reach no other one.
        latest = self._try_to_take(revocation, problems)
        count = await self._close(revocation)
        while True:
            if latest > revocation.expires:
                revocation = Revocation(revocation.claim, revocation.value, revocation.at, latest)
                self._try_to_take(revocation, problems)
            await self._record(revocation, problems)
            elsewhere = await self._announce(revocation, problems)
            latest, count = elsewhere.latest, count + elsewhere.count
            if latest <= revocation.expires or problems:
                break
        count += await self._disconnect(revocation, problems)
        if problems:
            raise Incomplete(
                f"this is not finished, and may be repeated: {'; '.join(dict.fromkeys(problems))}; whatever "
                "is not named here has been done"
            )
        _log.info(
            "Tokens were revoked by their {claim}; {count} streams are disconnected",
            claim=revocation.claim,
            count=count,
        )
        return Outcome(count, revocation.expires)

    # Messages of the nodes.

    def message_received(self, message: str) -> Deferred[str | None] | None:
        """
        Add a revocation of any node to the list, and close its streams.

        :returns: a Deferred of a text for the sender; ``None`` for a message of another kind. It fails with
            :exc:`~txsse.errors.TooManyRevocations` if the list is full.
        """
        revocation = _decode(message)
        return None if revocation is None else Deferred.fromCoroutine(self._receive(revocation))

    async def _receive(self, revocation: Revocation) -> str | None:
        latest = self._take(revocation)
        return _Streams(latest, await self._close(revocation)).encode()

    def messages_missed(self) -> None:
        """
        Refuse all tokens until the list has been read again, since it may lack revocations.

        Streams that have a key have been closed.
        """
        self._missed += 1
        self._is_complete = False
        # If this fails, the next request that has a token tries again.
        self._loading.join(self._load).addErrback(lambda _: None)

    # The list.

    async def _complete(self) -> None:
        try:
            await self._loading.join(self._load)
        except (CancelledError, HubStopped):
            raise
        except JournalFailed:
            # The journal has logged it.
            raise Unavailable("the list of revoked tokens is currently unavailable") from None
        except Exception:
            _failures.failure("the list of revoked tokens cannot be read")
            raise Unavailable("the list of revoked tokens cannot be read; see the log of the hub") from None

    async def _load(self) -> None:
        await self._hub.start()
        if not isinstance(self._hub.cluster, NoCluster):
            # The node joins its cluster by a heartbeat in the next turn of the reactor. The list is read
            # after that, so that no revocation is sent in between.
            for _ in range(2):
                await deferLater(self._hub.reactor, 0)
        kept = self._hub.revocations
        while not self._is_complete:
            missed = self._missed
            recorded = [] if kept is None else await kept.load()
            for number, revocation in enumerate(recorded, start=1):
                if self._revoked.add(revocation):
                    # Streams that were opened between a message that this node missed and now.
                    await self._close(revocation)
                if not number % _LOADED_SLICE:
                    await deferLater(self._hub.reactor, 0)
            self._is_complete = missed == self._missed

    def _extend(self, revocation: Revocation, grants: Grants) -> None:
        """
        Refuse a revoked token until it expires, also if it lives longer than its revocation says.

        It had no open stream when it was revoked, so that this was not known.
        """
        expires = _expiry(grants)
        if expires > revocation.expires and self.are_kept:
            longer = Revocation(revocation.claim, revocation.value, revocation.at, expires)
            self._revoked.add(longer)
            Deferred.fromCoroutine(self._spread(longer)).addErrback(_log_not_spread)

    async def _spread(self, revocation: Revocation) -> None:
        # If a step fails, the next node that the token is presented to, or this one after a restart, does
        # this again.
        problems: list[str] = []
        await self._record(revocation, problems)
        await self._announce(revocation, problems)

    def _take(self, revocation: Revocation) -> float:
        """
        Add a revocation to the list.

        :returns: when the last token of the open streams expires, in seconds since 1970; 0 without any.
        """
        self._revoked.add(revocation)
        return max((_expiry(grants) for _, grants in self._streams(revocation)), default=0.0)

    async def _close(self, revocation: Revocation) -> int:
        """
        Close the streams of this node that have a revoked token, and return their number.
        """
        count = 0
        for number, (subscriber, _) in enumerate(list(self._streams(revocation)), start=1):
            try:
                # It may have left while the reactor had its turn.
                count += subscriber.is_subscribed and disconnect(subscriber)
            except Exception:
                _failures.failure("{subscriber} cannot be disconnected", subscriber=subscriber)
            if not number % _SLICE:
                await deferLater(self._hub.reactor, 0)
        return count

    def _streams(self, revocation: Revocation) -> Iterable[tuple[Subscriber, Grants]]:
        for subscriber in self._hub.subscribers.with_key(stream_key(revocation.claim, revocation.value)):
            grants = subscriber.channel.context
            if isinstance(grants, Grants) and covers(revocation, grants):
                yield subscriber, grants

    # The steps of a revocation.

    def _try_to_take(self, revocation: Revocation, problems: list[str]) -> float:
        try:
            return self._take(revocation)
        except TooManyRevocations as error:
            problems.append(str(error))
            return 0.0

    async def _record(self, revocation: Revocation, problems: list[str]) -> None:
        kept = self._hub.revocations
        assert kept is not None, "the caller has checked this"
        try:
            await kept.add(revocation)
        except JournalFailed:
            problems.append(
                "the journal could not record it, so nodes that start later may accept the tokens"
            )
        except TooManyRevocations as error:
            problems.append(str(error))

    async def _announce(self, revocation: Revocation, problems: list[str]) -> _Streams:
        """
        Send a revocation to all nodes, and return which streams they had.
        """
        try:
            replies = await self._hub.cluster.broadcast(_encode(revocation))
        except NotAcknowledged as error:
            problems.append(f"these nodes may accept the tokens: {', '.join(error.nodes)}")
            return _Streams()
        except JournalFailed:
            problems.append("the other nodes may accept the tokens, as they cannot be reached")
            return _Streams()
        found = [_Streams.decode(reply) for reply in replies]
        return _Streams(max((each.latest for each in found), default=0.0), sum(each.count for each in found))

    async def _disconnect(self, revocation: Revocation, problems: list[str]) -> int:
        try:
            return await self._hub.disconnect(key=stream_key(revocation.claim, revocation.value))
        except NotAcknowledged as error:
            problems.append(f"these nodes may have open streams: {', '.join(error.nodes)}")
        except JournalFailed:
            problems.append("the other nodes may have open streams, as they cannot be reached")
        except HubStopped:
            problems.append("other nodes may have open streams, as this one is shutting down")
        return 0


@dataclass(frozen=True)
class _Streams:
    """
    The streams of a revocation at a node, as it replies to the sender.

    :ivar latest: when the last of their tokens expires, in seconds since 1970; 0 without streams.
    :ivar count: how many the node has closed.
    """

    latest: float = 0.0
    count: int = 0

    def encode(self) -> str:
        return json.dumps([self.latest, self.count])

    @classmethod
    def decode(cls, text: str) -> _Streams:
        return cls(*json.loads(text))


def revocations_of(hub: Hub) -> Revocations:
    """
    Return the revoked tokens of a hub, which all of its Mercure resources share.
    """
    return hub.node.find(Revocations) or Revocations(hub)


def _expiry(grants: Grants) -> float:
    return NEVER if grants.expires is None else min(grants.expires, NEVER)


def _log_not_spread(failure: Failure) -> None:
    _failures.failure("a revocation cannot be extended at other nodes", failure)


def _encode(revocation: Revocation) -> str:
    return json.dumps(
        {"revoked": [revocation.claim, revocation.value, revocation.at, revocation.expires]},
        separators=(",", ":"),
    )


def _decode(message: str) -> Revocation | None:
    try:
        return Revocation(*json.loads(message)["revoked"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
