"""
The end of a hub: its clients are sent elsewhere, in good order.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from txsse._rate_limited_log import RateLimitedLog
from txsse.errors import ChannelClosed, CloseReason
from txsse.protocol.encoder import encode_retry
from txsse.server.channel import SSEChannel

__all__ = ["drain"]

_log = Logger()
_failures = RateLimitedLog(_log)

# How many channels are sent away before the reactor has its turn: some 5 ms of work.
_SLICE = 256


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
    over = reactor.seconds() + deadline
    for count, channel in enumerate(leaving):
        _send_away(channel, last + encode_retry(random.uniform(*retry)))
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
