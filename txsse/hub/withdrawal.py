"""
What a channel holds back of a hub's updates, by the policies ``close``, ``latest`` and ``drop``, and what of
that is taken back when the channel unsubscribes.

Strategy: a private update must not reach a channel that may have lost its grant. The first one that is held
back is withdrawn, and every recorded update after it. A subscription that follows reads these from the
journal, in order and once, as far as it may have them.
"""

from __future__ import annotations

from dataclasses import dataclass

from txsse.server.channel import SSEChannel

__all__ = ["Held", "withdraw"]


@dataclass(frozen=True)
class Held:
    """
    The mark of an update that is held back.

    :ivar before: the position up to which the channel was sent everything before this update; ``None`` for an
        event that no journal holds.
    :ivar private: whether it is only for those subscribers who were granted that.
    """

    __slots__ = ("before", "private")

    before: int | None
    private: bool


def withdraw(channel: SSEChannel) -> int | None:
    """
    Take back the private updates that a channel holds back.

    :returns: the position after which a subscription that follows goes on; ``None`` if no recorded update was
        withdrawn.
    """
    go_on: int | None = None

    def is_withdrawn(held: Held) -> bool:
        nonlocal go_on
        if held.before is None:
            return held.private
        if held.private and go_on is None:
            go_on = held.before
        return go_on is not None

    channel.withdraw(is_withdrawn)
    return go_on
