"""
Graceful shutdown of a hub: send what was published, close the channels, and stop the journal.
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

# How many channels are closed before the reactor gets its turn: some 5 ms of work.
_SLICE = 256


# How long the journal may take to stop if the clients have used up the time, in seconds.
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
    Send the updates that were published, close the channels, and stop the journal.

    :param distribution: the hub's distribution; ``None`` for a hub that has not been used.
    :param last: as for :func:`drain`, like ``retry`` and ``deadline``. The deadline includes all steps.
    """
    if distribution is None:
        return
    reactor, fanout = distribution.reactor, distribution.fanout
    over = reactor.seconds() + deadline
    await publishing.settle(deadline, reactor)
    if fanout.busy:
        # The hub is stopped by code that runs within a fan-out. Wait for its end: the other subscribers are
        # sent the update too.
        await deferLater(reactor, 0)
    fanout.flush()
    await drain(channels, reactor, last=last, retry=retry, deadline=over - reactor.seconds())
    publishing.end()
    distribution.roster.stop()
    # A journal that has not been started need not be stopped.
    if not lifecycle.has_journal:
        return
    stopping = Deferred.fromCoroutine(_stop_journal(lifecycle, distribution))
    # The journal has a second, even if the clients used up all of the time.
    stopping.addTimeout(max(_JOURNAL_TIME, over - reactor.seconds()), reactor)
    try:
        await stopping
    except TimeoutError:
        _log.error("the hub has stopped, but its journal did not stop in time")


async def _stop_journal(lifecycle: Lifecycle, distribution: Distribution) -> None:
    try:
        await lifecycle.start()
    except JournalFailed:
        # The journal has logged that it could not be started.
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

    :param last: the last frames for each channel.
    :param retry: the shortest and the longest reconnection delay, in seconds. Each client is sent a random
        delay in between, to avoid a thundering herd at the nodes that remain.
    :param deadline: how long this may take, in seconds. Clients that have not read everything by then are cut
        off.
    """
    channels = list(channels)
    randomness = randomness_of(reactor)
    over = reactor.seconds() + deadline
    for count, channel in enumerate(channels):
        _close(channel, last + encode_retry(randomness.uniform(*retry)))
        if count % _SLICE == _SLICE - 1:
            await deferLater(reactor, 0)
    closed = {channel: channel.when_closed() for channel in channels}
    cut_off = reactor.callLater(max(0, over - reactor.seconds()), _cut_off, closed)
    await DeferredList(closed.values(), consumeErrors=True)
    if cut_off.active():
        cut_off.cancel()


def _close(channel: SSEChannel, last: bytes) -> None:
    try:
        channel.send_frame(last, None)
        channel.close(reason=CloseReason.DRAINED)
    except ChannelClosed:
        return
    except Exception:
        # The other channels must be closed, too. This one is aborted at the deadline.
        _failures.failure("{channel} cannot be closed", channel=channel)


def _cut_off(closed: Mapping[SSEChannel, Deferred[CloseReason]]) -> None:
    cut = 0
    for channel, waiting in closed.items():
        try:
            cut += channel.abort(reason=CloseReason.FLUSH_TIMEOUT)
        except Exception:
            _failures.failure("{channel} cannot be aborted", channel=channel)
            # Do not wait for its end any longer.
            waiting.cancel()
    _log.info("{count} clients were cut off: they did not read everything in time", count=cut)
