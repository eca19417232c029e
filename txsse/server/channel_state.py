"""
The states of a channel, and the reasons of an end that the channel did not cause.
"""

from __future__ import annotations

from enum import Enum, auto

from twisted.internet.error import TCPTimedOutError
from twisted.python.failure import Failure

from txsse.errors import CloseReason

__all__ = ["PLAIN_REASONS", "ChannelState", "reason_of"]


class ChannelState(Enum):
    """
    The states of a channel, in their order.
    """

    OPEN = auto()
    CLOSING = auto()
    CLOSED = auto()


#: Reasons that say only that the stream has ended. While the reactor, or its service, stops, the reason is
#: SHUTDOWN instead.
PLAIN_REASONS = frozenset([CloseReason.CLIENT_GONE, CloseReason.SERVER_CLOSED])


def reason_of(result: Failure | None) -> CloseReason:
    """
    Return why a channel ended whose request ended by itself.

    :param result: why the connection was lost; ``None`` if the response was finished.
    """
    if not isinstance(result, Failure):
        return CloseReason.SERVER_CLOSED
    return CloseReason.PEER_TIMEOUT if result.check(TCPTimedOutError) else CloseReason.CLIENT_GONE
