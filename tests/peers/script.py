"""
The form of a script: the replies of a server, and the client's behaviour that the standard requires.

A client notes ``("open", readyState)``, ``("error", readyState)`` and, for each event, ``(type, data,
lastEventId)``. Every script ends, because the server answers with 204 after its last reply.
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

# The part of the path after the script's own, and the Last-Event-ID.
Visited = tuple[str, str | None]

OPEN: Note = ("open", 1)
AGAIN: Note = ("error", 0)
END: Note = ("error", 2)

# A separate block, so that the retry field does not affect the blocks under test.
QUICK = "retry: 10\n\n"

# Makes the client report to the server that it has shown this event. The server waits for the report before
# it cuts the connection, because a browser drops events that it has not shown yet.
SEEN = "event: seen\ndata: x\n\n"

# Seconds between chunks that a client is to read separately.
_PAUSE = 0.02


@dataclass(frozen=True)
class Script:
    """
    A server's replies, and what a client does with them.

    :ivar replies: the server's replies, one for each request.
    :ivar notes: the client's notes.
    :ivar visits: the client's requests.
    :ivar unheard: types to listen for that no event may have, besides the types in the notes.
    """

    replies: Sequence[Reply]
    notes: Sequence[Note]
    visits: Sequence[Visited]
    unheard: Sequence[str] = ()

    @property
    def types(self) -> list[str]:
        """
        The event types to listen for.
        """
        return sorted({note[0] for note in self.notes if len(note) == 3} | set(self.unheard))


def message(data: str, id: str = "", type: str = "message") -> Note:
    """
    Return the note of an event.
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
    Return a script with one stream: the client reconnects when it ends, and the server answers with 204.

    :param steps: the server's output.
    :param gives: the notes of the events.
    :param id: the ``Last-Event-ID`` of the reconnection.
    :param first: the server's output before the steps.
    :param unheard: types to listen for that no event may have.
    """
    notes = [OPEN, *gives, AGAIN, END]
    return Script([Reply([first, *steps])], notes, [("", None), ("", id)], unheard)


def refused(reply: Reply) -> Script:
    """
    Return a script without a stream: the client sends one request and closes.
    """
    return Script([reply], [END], [("", None)])


def apart(*chunks: str | bytes) -> list[Step]:
    """
    Return steps that send the chunks with pauses, so that the client reads each separately.
    """
    return [step for chunk in chunks for step in (chunk, _PAUSE)]
