"""
Where a client differs from the standard, or from the script where the standard permits a choice, and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.peers.reply_scripts import REDIRECTS
from tests.peers.script import AGAIN, END, OPEN, Note, Visited, message
from tests.peers.scripts import SCRIPTS

__all__ = ["CHROMIUM", "NODE", "NODE_18", "OURS", "Difference"]


@dataclass(frozen=True)
class Difference:
    """
    A client's behaviour for a script.

    :ivar why: the reason for the difference.
    :ivar notes: the notes that the client takes; ``None`` for those of the script.
    :ivar visits: the requests that the client sends; ``None`` for those of the script.
    """

    why: str
    notes: Sequence[Note] | None = None
    visits: Sequence[Visited] | None = None


OURS = {
    "compressed": Difference(
        "it requests no compression, and refuses a coding that it has not requested", [END], [("", None)]
    ),
    "redirect in a circle": Difference(
        "it closes after too many redirects, as the standard permits if another attempt is futile",
        [OPEN, AGAIN, END],
        SCRIPTS["redirect in a circle"].visits[:-1],
    ),
}

CHROMIUM = {
    "media type text/event-stream;charset=windows-1252": Difference(
        "it refuses every charset but UTF-8, where the standard ignores the parameter", [END], [("", None)]
    ),
}

_NO_ID = "an event's lastEventId is that of its own block, and empty if the block has no id"
_HELD_BACK = "its parser holds a CR back until the next byte, which shows whether it is half of a CR LF"
_LATIN_1 = "fetch() accepts only Latin 1 in header fields, so the id is not encoded as UTF-8"
_THROWS = "fetch() throws for such a header field, so that it retries for ever and sends nothing"
_KEPT_WITH_DATA = "an id counts only if its block has data"

# An unlimited number of errors; record.mjs stops after the fourth.
_FOR_EVER: list[Note] = [AGAIN] * 4 + [("given up", 0)]

# https://github.com/EventSource/eventsource 4.1.1, on the fetch() of Node 18 and 20.
NODE = {
    "types and ids": Difference(
        _NO_ID,
        [OPEN, message("a"), message("b", "1", "tick"), message("c"), message("d", "2", "größe"), AGAIN, END],
    ),
    "type without data": Difference(
        _KEPT_WITH_DATA, [OPEN, message("a"), message("b"), AGAIN, END], [("", None)] * 2
    ),
    "line ends": Difference(_HELD_BACK, [OPEN, message("a\nb\nc\nd"), *map(message, "efgh"), AGAIN, END]),
    "CR at the end": Difference(_HELD_BACK, [OPEN, message("a"), AGAIN, END], [("", None)] * 2),
    "NUL in an id": Difference(_NO_ID, [OPEN, message("a", "1"), message("b"), message("c"), AGAIN, END]),
    "id alone": Difference(
        _KEPT_WITH_DATA, [OPEN, message("a", "1"), message("b"), AGAIN, END], [("", None), ("", "1")]
    ),
    "unfinished line": Difference(_KEPT_WITH_DATA, visits=[("", None), ("", "1")]),
    "an empty stream": Difference(
        _KEPT_WITH_DATA, [OPEN, AGAIN, OPEN, AGAIN, OPEN, message("a"), AGAIN, END], [("", None)] * 4
    ),
    "id of the stream before": Difference(
        _NO_ID, [OPEN, message("a", "1"), AGAIN, OPEN, message("b"), AGAIN, END]
    ),
    "id in Latin 1": Difference(_LATIN_1, visits=[("", None), ("", "\\xe9")]),
    "id in Unicode": Difference(_THROWS, [*SCRIPTS["id in Unicode"].notes[:2], *_FOR_EVER], [("", None)]),
    "id with a control character": Difference(
        _THROWS, [*SCRIPTS["id with a control character"].notes[:2], *_FOR_EVER], [("", None)]
    ),
    "media type text/event-stream-x": Difference(
        "it compares only the beginning of the media type",
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    "media type text/event-stream, text/html": Difference(
        "it compares only the beginning of the media type",
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    **{
        f"media type {kind}, text/event-stream{parameters}": Difference(
            "it compares only the beginning of the media type", [END], [("", None)]
        )
        for kind, parameters in (("application/json", "; charset=utf-8"), ("text/html;charset=gbk", ""))
    },
    "invalid content coding": Difference(
        "its fetch() does not decode the body", [OPEN, message("a"), AGAIN, END]
    ),
    "media type Text/Event-Stream": Difference(
        "it compares the media type case-sensitively", [END], [("", None)]
    ),
    **{
        name: Difference(
            "it reconnects to the original URL, not to the one that this redirected to",
            visits=[*script.visits[:-1], ("", script.visits[-1][1])],
        )
        for name, script in REDIRECTS.items()
        if AGAIN in script.notes and script.visits[-1][0]
    },
}

# Further differences of older versions.
NODE_18 = {
    "redirect in Unicode": Difference(
        "its fetch() decodes a Location as Latin 1, where browsers decode it as UTF-8",
        visits=[("", None), ("gr%C3%83%C2%B6%C3%83%C2%9Fe", None), ("", "1")],
    ),
}
