"""
Positions in the journal: the point from which a subscriber resumes, and how far its replay has come.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["OLDEST", "Progress", "ResumePoint"]

# The position before the oldest update that a journal holds, however many updates were dropped before it.
OLDEST = -1


@dataclass(frozen=True)
class ResumePoint:
    """
    The point in the journal from which a subscriber reads.

    :ivar position: the position after which to read, or :data:`OLDEST`.
    :ivar missed: whether to report to the client that it missed updates before the position (a gap).
    :ivar named: the id in the response header for this point: that of the update at the position, or
        ``earliest``; ``None`` for a client that does not resume.
    :ivar resume_id: the id that is sent first to a client that does not resume, so that it can resume later
        even if it has received no update.
    :ivar with_state: whether to send the state first: the retained updates, and the snapshot.
    :ivar complete_from: the position from which the state and the updates after it are complete. Up to there,
        updates are sent without their ids, so that a client which is cut off gets the state anew.
    """

    position: int
    missed: bool = False
    named: str | None = None
    resume_id: str | None = None
    with_state: bool = False
    complete_from: int = OLDEST

    @property
    def is_resumption(self) -> bool:
        """
        Whether the client resumes where it was, or requests all updates: it is sent no state.
        """
        return self.named is not None and not self.missed


class Progress:
    """
    The point up to which a replaying channel has read.

    A channel that subscribes anew, while the resume point of its previous subscription is still looked up,
    shares this object with that subscription.

    :ivar place: the point from which to continue; ``None`` until it has been looked up.
    """

    __slots__ = ("place",)

    def __init__(self, place: ResumePoint | None = None) -> None:
        self.place = place
