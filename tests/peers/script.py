"""
What a script is: what a server does, and what the standard wants a client to make of it.

The client notes what it shows: ``("open", readyState)``, ``("error", readyState)`` and, for an event,
``(type, data, lastEventId)``. Each script ends, because a server that has played all its replies answers 204.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from txsse.testing import Reply, Step

__all__ = [
    "AGAIN",
    "END",
    "OPEN",
    "QUICK",
    "SEEN",
    "Note",
    "Script",
    "Visited",
    "apart",
    "message",
    "refused",
    "stream",
]

Note = tuple[str, int] | tuple[str, str, str]

# The path behind that of the script, and the Last-Event-ID.
Visited = tuple[str, str | None]

OPEN: Note = ("open", 1)
AGAIN: Note = ("error", 0)
END: Note = ("error", 2)

# In a block of its own, so that it is no part of what the script is about.
QUICK = "retry: 10\n\n"

# Has a client tell the server that it has come as far as this. The server waits for that before it cuts the
# connection, since a browser drops what it has not shown yet.
SEEN = "event: seen\ndata: x\n\n"

# Between chunks that are to be read one by one.
_PAUSE = 0.02


@dataclass(frozen=True)
class Script:
    """
    One of them.

    :ivar replies: what the server answers, request by request.
    :ivar notes: what the client notes.
    :ivar visits: the requests.
    :ivar unheard: types of events that must not come, besides those that do.
    """

    replies: Sequence[Reply]
    notes: Sequence[Note]
    visits: Sequence[Visited]
    unheard: Sequence[str] = ()

    @property
    def types(self) -> list[str]:
        """
        The types to listen to.
        """
        return sorted({note[0] for note in self.notes if len(note) == 3} | set(self.unheard))


def message(data: str, id: str = "", type: str = "message") -> Note:
    """
    Note an event.
    """
    return type, data, id


def stream(
    *steps: Step,
    gives: Sequence[Note],
    id: str | None = None,
    first: Step = QUICK,
    unheard: Sequence[str] = (),
) -> Script:
    """
    One stream: the client comes back when it ends, and is sent away.

    :param steps: what the server sends.
    :param gives: the events.
    :param id: the ``Last-Event-ID`` with which it comes back.
    :param first: what the server sends before.
    :param unheard: types of events that must not come.
    """
    notes = [OPEN, *gives, AGAIN, END]
    return Script([Reply([first, *steps])], notes, [("", None), ("", id)], unheard)


def refused(reply: Reply) -> Script:
    """
    No stream: the client asks once, and never again.
    """
    return Script([reply], [END], [("", None)])


def apart(*chunks: str | bytes) -> list[Step]:
    """
    Send chunks so that each is read alone.
    """
    return [step for chunk in chunks for step in (chunk, _PAUSE)]
