"""
What a hub has from its first use on.
"""

from __future__ import annotations

from functools import lru_cache

from twisted.internet.interfaces import IReactorTime

from txsse.hub.fanout import Fanout
from txsse.hub.journal_problem import JournalProblem
from txsse.hub.replay import Replay
from txsse.hub.update_ids import IdMaker
from txsse.journal.interfaces import IJournal
from txsse.journal.position import ResumePoint
from txsse.journal.update import Update
from txsse.protocol.encoder import encode_id
from txsse.server.sinks.base import Framed

__all__ = ["Live", "anchor_frames"]


# Those who come between two updates get the same.
@lru_cache(maxsize=8)
def anchor_frames(id: str) -> Framed:
    """
    Encode the id that a newcomer is sent first.
    """
    return Framed(encode_id(id))


class Live:
    """
    What a hub has from its first use on.
    """

    def __init__(
        self, reactor: IReactorTime, replay: Replay, fanout: Fanout, ids: IdMaker, journal: IJournal
    ) -> None:
        self.reactor = reactor
        self.replay = replay
        self.fanout = fanout
        self.ids = ids
        self.trouble = JournalProblem(reactor.seconds)
        self.started = False
        # What is known of the update at the journal's head; the hub notes here each that comes.
        self.head_id: str | None = None
        self.head: Update | None = None
        self.journal = journal

    def forget_head_id(self) -> None:
        """
        The update at the head is another one now.
        """
        self.head_id = None
        self.head = None

    def learn_head_id(self, id: str | None) -> None:
        """
        Take note of the id at the journal's head, unless an update came meanwhile.
        """
        if self.head_id is None:
            self.head_id = id

    def here(self) -> ResumePoint:
        """
        Return the place of a client that comes for the first time.
        """
        head = self.head
        anchor = self.journal.anchor(self.journal.head) if head is None or head.private else head.id
        return ResumePoint(self.journal.head, anchor=anchor)
