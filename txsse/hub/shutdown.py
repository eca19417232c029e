"""
Graceful shutdown of a hub: what was published is sent, the channels are closed, the journal ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, DeferredList, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txsse._randomness import randomness_of
from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import ChannelClosed, CloseReason, JournalFailed
from txsse.hub.distribution import Distribution
from txsse.hub.lifecycle import Lifecycle
from txsse.hub.publishing import Publishing
from txsse.protocol.encoder import encode_retry
from txsse.server.channel import SSEChannel

__all__ = ["drain", "shut_down"]

_log = Logger()
_failures = RateLimitedLog(_log)

# How many channels are sent away before the reactor has its turn: some 5 ms of work.
_SLICE = 256


# How long the journal may take to end if the clients have used up the time, in seconds.
_JOURNAL_TIME = 1.0


async def shut_down(
    distribution: Distribution | None,
    lifecycle: Lifecycle,
    channels: Iterable[SSEChannel],
    publishing: Publishing,
    *,
    last: bytes,
    retry: tuple[float, float],
    deadline: float,
) -> None:
    """
    Send what was published, close the channels, and stop the journal.

    :param distribution: that of the hub; ``None`` for a hub that has not been used.
    :param last: see :func:`drain`, also for the others.
    """
    if distribution is None:
        # The hub has not been used.
        return
    reactor, fanout = distribution.reactor, distribution.fanout
    over = reactor.seconds() + deadline
    await publishing.settle(deadline, reactor)
    if fanout.busy:
        # A subscriber that was just sent something stops the hub; the others are sent it too.
        await deferLater(reactor, 0)
    fanout.flush()
    await drain(channels, reactor, last=last, retry=retry, deadline=over - reactor.seconds())
    publishing.end()
    # A journal that could not be started has nothing to end.
    if not lifecycle.has_journal:
        return
    stopping = Deferred.fromCoroutine(_stop_journal(lifecycle, distribution))
    # Clients that used up the time are no reason to cut the journal off.
    stopping.addTimeout(max(_JOURNAL_TIME, over - reactor.seconds()), reactor)
    try:
        await stopping
    except TimeoutError:
        _log.error("the hub has stopped, and its journal did not answer in time")


async def _stop_journal(lifecycle: Lifecycle, distribution: Distribution) -> None:
    try:
        await lifecycle.start()
    except JournalFailed:
        # It has said so itself.
        return
    await distribution.stop()


async def drain(
    channels: Iterable[SSEChannel],
    reactor: IReactorTime,
    *,
    last: bytes,
    retry: tuple[float, float],
    deadline: float,
) -> None:
    """
    Close channels, and wait until they are closed.

    :param last: what they are sent last, in frames.
    :param retry: the shortest and the longest time after which they are to reconnect, in seconds. Each is
        sent one of its own in between, so that they do not all come at once to whoever is there then.
    :param deadline: how long the whole may take, in seconds; who has not read everything by then is cut off.
    """
    leaving = list(channels)
    randomness = randomness_of(reactor)
    over = reactor.seconds() + deadline
    for count, channel in enumerate(leaving):
        _send_away(channel, last + encode_retry(randomness.uniform(*retry)))
        if count % _SLICE == _SLICE - 1:
            await deferLater(reactor, 0)
    closed = {channel: channel.when_closed() for channel in leaving}
    cutting = reactor.callLater(max(0, over - reactor.seconds()), _cut_off, closed)
    await DeferredList(closed.values(), consumeErrors=True)
    if cutting.active():
        cutting.cancel()


def _send_away(channel: SSEChannel, last: bytes) -> None:
    try:
        channel.send_frame(last, None)
        channel.close(reason=CloseReason.DRAINED)
    except ChannelClosed:
        return
    except Exception:
        # The others are to end, too; this one is cut off when the time is over.
        _failures.failure("{channel} cannot be closed", channel=channel)


def _cut_off(closed: Mapping[SSEChannel, Deferred[CloseReason]]) -> None:
    cut = 0
    for channel, waiting in closed.items():
        try:
            cut += channel.abort(reason=CloseReason.FLUSH_TIMEOUT)
        except Exception:
            _failures.failure("{channel} cannot be cut off", channel=channel)
            # Nobody waits for its end any more.
            waiting.cancel()
    _log.info("{count} clients did not read to the end in time", count=cut)
