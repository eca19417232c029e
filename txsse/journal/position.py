"""
Where in the journal a subscriber begins.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OLDEST", "Progress", "ResumePoint"]

# The place before the oldest update that a journal still holds, however many were before that.
OLDEST = -1


@dataclass(frozen=True)
class ResumePoint:
    """
    A place in the journal.

    :ivar position: the position behind which to read on, or :data:`OLDEST`.
    :ivar missed: whether the client is to be told that it missed something before that.
    :ivar named: what the response header tells of it: the id of the update there, or ``earliest``; ``None``
        for a client that did not ask to resume.
    :ivar resume_id: the id that such a client is sent first, so that it can resume before it has received
        an update.
    """

    position: int
    missed: bool = False
    named: str | None = None
    resume_id: str | None = None


class Progress:
    """
    How far a channel that is not live has come, over its subscriptions: one that begins while the place is
    still looked for shares this with the one before.

    :ivar place: where to go on; ``None`` until it is found.
    """

    __slots__ = ("place",)

    def __init__(self, place: ResumePoint | None = None) -> None:
        self.place = place
