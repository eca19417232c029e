"""
Overflow policies: what happens to a slow reader whose buffer is full.

A policy is one object for all channels of an upgrader; the buffered frames of a channel are in its own
:class:`~txsse.server.buffer.FrameBuffer`.
"""

from __future__ import annotations

from typing import ClassVar

from txsse._arguments import wrong_type
from txsse.server.buffer import Budget, FrameBuffer, KeyedBuffer

__all__ = [
    "POLICIES",
    "ClosePolicy",
    "DropPolicy",
    "LatestPolicy",
    "OverflowPolicy",
    "ReplayPolicy",
    "to_policy",
]


class OverflowPolicy:
    """
    Decides what happens when a frame exceeds the limits of a channel's buffer.

    ``Upgrader(slow_policy=...)`` takes an instance of a subclass, or a name: ``close``, ``drop``, ``latest``
    or ``replay``. For example, a policy that drops the oldest frames::

        class DropOldestPolicy(OverflowPolicy):
            name = "drop-oldest"

            def make_room(self, buffer: FrameBuffer, size: int) -> bool:
                while len(buffer) and not buffer.has_room(size):
                    buffer.drop_oldest()
                return True

    :cvar name: the name in options and log lines.
    :cvar replays: whether a hub stops buffering for a slow reader, and replays from the journal once the
        client has caught up. Frames that the application sends to the channel without the hub are buffered.
    """

    name: ClassVar[str]
    replays: ClassVar[bool] = False

    def new_buffer(self, budget: Budget) -> FrameBuffer:
        """
        Make the buffer of a new channel.
        """
        return FrameBuffer(budget, self)

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Make room for a frame that does not fit.

        If the frame does not fit afterwards either, it is dropped and counted.

        :param buffer: the buffer of the channel.
        :param size: the size of the frame, in bytes.
        :returns: ``False`` to close the channel with :attr:`txsse.CloseReason.SLOW_READER`.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class ClosePolicy(OverflowPolicy):
    """
    A policy that closes the channel: the browser reconnects with its ``Last-Event-ID``.
    """

    name = "close"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Close the channel.
        """
        return False


class DropPolicy(OverflowPolicy):
    """
    A policy that drops new frames as long as the buffer is full.
    """

    name = "drop"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Make no room, so that the new frame is dropped.
        """
        return True


class LatestPolicy(OverflowPolicy):
    """
    A policy that buffers only the newest frame of each key: current state rather than history.

    If the newest frames exceed the limit, those that changed least recently are dropped.
    """

    name = "latest"

    def new_buffer(self, budget: Budget) -> FrameBuffer:
        """
        Make a buffer that replaces an older frame of the same key.
        """
        return KeyedBuffer(budget, self)

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Drop the frames that changed least recently.
        """
        while len(buffer) and not buffer.has_room(size):
            buffer.drop_oldest()
        return True


class ReplayPolicy(ClosePolicy):
    """
    In a hub, stop buffering and replay from the journal later; elsewhere, the same as ``close``.
    """

    name = "replay"
    replays = True


#: The policies by their names.
POLICIES: dict[str, OverflowPolicy] = {
    policy.name: policy for policy in (ClosePolicy(), DropPolicy(), LatestPolicy(), ReplayPolicy())
}


def to_policy(given: str | OverflowPolicy) -> OverflowPolicy:
    """
    Return the policy of a name; an instance is returned unchanged.

    :raises ValueError: for an unknown name.
    :raises TypeError: for anything else.
    """
    if isinstance(given, OverflowPolicy):
        return given
    if not isinstance(given, str):
        raise wrong_type("slow_policy", given, "a name, such as 'close', or an OverflowPolicy")
    if given not in POLICIES:
        raise ValueError(f"slow_policy must be one of {', '.join(POLICIES)}, not {given!r}")
    return POLICIES[given]
