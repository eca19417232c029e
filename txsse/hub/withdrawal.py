"""
Withdrawal of the updates that a channel holds back, when it unsubscribes or its topics change.

The overflow policies ``close``, ``latest`` and ``drop`` hold updates back for a slow reader. A channel that
unsubscribes may have lost its grant, so private updates must not be sent any more.

Strategy: the first private update that is held back is withdrawn, and so is every recorded update after it. A
later subscription reads these from the journal, in order and once, as far as it is allowed to.
"""

from __future__ import annotations

from dataclasses import dataclass

from txsse.hub.subscriber import Subscriber
from txsse.journal.update import EphemeralUpdate, Update
from txsse.server.channel import SSEChannel

__all__ = ["Held", "withdraw", "withdraw_denied"]


@dataclass(frozen=True)
class Held:
    """
    Describes an update that a channel holds back.

    :ivar before: the position up to which the channel had been sent its updates before this one; ``None`` for
        an ephemeral event.
    :ivar update: the update.
    """

    __slots__ = ("before", "update")

    before: int | None
    update: Update | EphemeralUpdate


def withdraw(channel: SSEChannel) -> int | None:
    """
    Withdraw the private updates that a channel holds back.

    :returns: the position after which a later subscription continues; ``None`` if no recorded update was
        withdrawn.
    """
    go_on: int | None = None

    def is_withdrawn(held: Held) -> bool:
        nonlocal go_on
        if held.before is None:
            return held.update.private
        if held.update.private and go_on is None:
            go_on = held.before
        return go_on is not None

    channel.withdraw(is_withdrawn)
    return go_on


def withdraw_denied(subscriber: Subscriber) -> None:
    """
    Withdraw the updates that a subscriber's channel holds back, and that it may no longer receive.

    The others stay in the buffer, in their order.
    """
    known: dict[tuple[tuple[str, ...], bool], bool] = {}

    def is_denied(held: Held) -> bool:
        update = held.update
        kind = update.topics, update.private
        if kind not in known:
            known[kind] = not subscriber.may_have(update)
        return known[kind]

    subscriber.channel.withdraw(is_denied)
