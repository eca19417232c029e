"""
Overflow policies: what happens to a slow reader whose buffer is full.

A policy is one object for all channels of an upgrader; what a channel buffers is in its own
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
    What happens when a channel has to buffer more than it may. ``Upgrader(slow_policy=...)`` takes an
    instance of a subclass, or a name: ``close``, ``drop``, ``latest`` or ``replay``. A policy that drops the
    oldest frames::

        class DropOldestPolicy(OverflowPolicy):
            name = "drop-oldest"

            def make_room(self, buffer: FrameBuffer, size: int) -> bool:
                while len(buffer) and not buffer.has_room(size):
                    buffer.drop_oldest()
                return True

    :cvar name: its name in options and log lines.
    :cvar replays: whether a hub buffers nothing for a slow reader, and replays from the journal once the
        client has caught up. What is sent to the channel without the hub is buffered.
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
        Make room for a frame that does not fit. The frame is dropped and counted if it still does not fit
        afterwards.

        :param buffer: the buffer of the channel.
        :param size: the size of the frame, in bytes.
        :returns: ``False`` to close the channel with :attr:`txsse.CloseReason.SLOW_READER`.
        """
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class ClosePolicy(OverflowPolicy):
    """
    End the stream: the browser reconnects with its ``Last-Event-ID``.
    """

    name = "close"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Close the channel.
        """
        return False


class DropPolicy(OverflowPolicy):
    """
    Drop new frames as long as the buffer is full.
    """

    name = "drop"

    def make_room(self, buffer: FrameBuffer, size: int) -> bool:
        """
        Make no room: the frame is dropped.
        """
        return True


class LatestPolicy(OverflowPolicy):
    """
    Buffer only the newest frame of each key: the client sees the current state, not the way there. If even
    these exceed the limit, the ones that changed least recently are dropped.
    """

    name = "latest"

    def new_buffer(self, budget: Budget) -> FrameBuffer:
        """
        Make a buffer that replaces frames by their keys.
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
    In a hub, buffer nothing and replay from the journal; elsewhere, the same as ``close``.
    """

    name = "replay"
    replays = True


#: The policies by their names.
POLICIES: dict[str, OverflowPolicy] = {
    policy.name: policy for policy in (ClosePolicy(), DropPolicy(), LatestPolicy(), ReplayPolicy())
}


def to_policy(given: str | OverflowPolicy) -> OverflowPolicy:
    """
    Return a policy by its name, or as it is.

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
