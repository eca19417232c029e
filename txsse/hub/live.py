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

__all__ = ["Live", "resume_id_frames"]


# Clients that connect between two updates get the same.
@lru_cache(maxsize=8)
def resume_id_frames(id: str) -> Framed:
    """
    Encode the id that a new client is sent first.
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
        # The newest update that this process received; and the id at the journal's head, at first that which
        # the journal holds.
        self.head: Update | None = None
        self.head_id: str | None = None
        self.journal = journal

    def resume_id(self) -> str:
        """
        Return an id for the journal's head that may be disclosed to every client.
        """
        head, journal = self.head, self.journal
        return journal.resume_id(journal.head) if head is None or head.private else head.id

    def here(self) -> ResumePoint:
        """
        Return the position of a new client.
        """
        return ResumePoint(self.journal.head, resume_id=self.resume_id())
