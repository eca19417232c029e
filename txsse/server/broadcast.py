"""
Sending one event to many channels that belong to no hub.

Strategy: the event is encoded and framed once, and each sink is offered the same bytes, as a hub does it. A
sink refuses them while its client is slow; the channel then buffers the frame by its own overflow policy.
"""

from __future__ import annotations

from collections.abc import Iterable

from twisted.logger import Logger
from twisted.python.failure import Failure

from txsse._arguments import wrong_type
from txsse._rate_limited_log import RateLimitedLog
from txsse._serialize import to_text
from txsse._threads import check_thread
from txsse.errors import ChannelClosed
from txsse.protocol.encoder import encode_event
from txsse.protocol.event import ServerSentEvent
from txsse.server.channel import SSEChannel
from txsse.server.pump import Item
from txsse.server.sinks.base import Framed

__all__ = ["broadcast"]

_failures = RateLimitedLog(Logger())


def broadcast(channels: Iterable[SSEChannel], event: Item) -> int:
    """
    Send one event to many channels.

    It does the same as a loop of :meth:`txsse.SSEChannel.send_event`, at half the cost or less: the event is
    encoded once, and written to each plain TCP connection at once. Closed channels are skipped. The overflow
    policy of each slow channel applies to it alone. An unexpected error of a channel is logged, and closes
    this channel; the others still get the event.

    All channels are served in one turn of the reactor. For topics, replay, or tens of thousands of channels,
    which a fan-out serves in slices, use a :class:`txsse.Hub`.

    :param channels: the channels, such as a set of them, which may change during the call: those that it has
        when the call begins get the event.
    :param event: the text, its UTF-8 form, or a :class:`txsse.ServerSentEvent`.
    :returns: how many channels accepted the event: those for which ``send_event`` would not have raised. As
        there, an event that the policy ``drop`` drops counts as accepted.
    :raises InvalidField: as :meth:`txsse.SSEChannel.send` does; no channel gets the event.
    :raises TypeError: for an event of another type, and for members that are not channels; no channel gets
        the event.
    """
    built = _to_event(event)
    # A copy: closing a channel may call code that removes it from the caller's collection.
    members = _to_channels(channels)
    if not members:
        return 0
    check_thread(members[0].reactor, "broadcast")
    framed = Framed(encode_event(built))
    key = built.event or "message"
    # Count the channels that did not accept it: they are few.
    left_out = 0
    for channel in members:
        try:
            if not channel.offer(framed) and not _send_to_slow(channel, framed.data, key):
                left_out += 1
        except Exception:
            _drop(channel, Failure())
            left_out += 1
    return len(members) - left_out


def _send_to_slow(channel: SSEChannel, frame: bytes, key: str) -> bool:
    """
    Send a frame to a channel that refused it as an offer: it is slow, or closed.

    :returns: whether the channel accepted the frame.
    """
    try:
        channel.send_frame(frame, key)
    except ChannelClosed:
        # It was closed before, or its policy has closed it now, and has logged that.
        return False
    return True


def _drop(channel: SSEChannel, failure: Failure) -> None:
    """
    Abort a channel after an unexpected error: a part of the frame may have been sent.
    """
    _failures.failure("{channel} is aborted: a broadcast failed", failure, channel=channel)
    try:
        channel.abort()
    except Exception:
        _failures.failure("{channel} cannot be aborted", channel=channel)


def _to_event(event: Item) -> ServerSentEvent:
    if isinstance(event, ServerSentEvent):
        return event
    if isinstance(event, str | bytes):
        return ServerSentEvent(to_text(event))
    raise wrong_type("event", event, "str, bytes or a ServerSentEvent (for JSON, pass json.dumps(...))")


def _to_channels(channels: Iterable[SSEChannel]) -> tuple[SSEChannel, ...]:
    wanted = "a collection of SSEChannel objects (of a dict that has channels as values, pass values())"
    if not isinstance(channels, Iterable):
        raise wrong_type("channels", channels, wanted)
    members = tuple(channels)
    # One check for each type, since there may be many thousand channels.
    if not all(issubclass(kind, SSEChannel) for kind in set(map(type, members))):
        other = next(each for each in members if not isinstance(each, SSEChannel))
        raise wrong_type("channels", other, wanted)
    return members
