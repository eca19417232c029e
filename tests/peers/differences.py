"""
Where a client does something else than the standard says, or chooses where the standard lets it, and why.
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
    What it does instead.

    :ivar why: the reason.
    :ivar notes: what it shows; ``None`` for what the script says.
    :ivar visits: its requests; ``None`` for what the script says.
    """

    why: str
    notes: Sequence[Note] | None = None
    visits: Sequence[Visited] | None = None


OURS = {
    "compressed": Difference(
        "it asks for no compression, and refuses what it has not asked for", [END], [("", None)]
    ),
    "redirect in a circle": Difference(
        "too many redirects end it, as the standard allows where another attempt is futile",
        [OPEN, AGAIN, END],
        SCRIPTS["redirect in a circle"].visits[:-1],
    ),
}

CHROMIUM = {
    "media type text/event-stream;charset=windows-1252": Difference(
        "it refuses every charset but UTF-8, where the standard ignores the parameter", [END], [("", None)]
    ),
}

_NO_ID = "the lastEventId is that of the event's own block, empty where it has none"
_HELD_BACK = "its parser holds a CR back until the next byte, which tells whether it is half of a CR LF"
_LATIN_1 = "fetch() takes header fields in Latin 1 alone, so the id is not encoded as UTF-8"
_THROWS = "fetch() throws for such a header field, so that it tries again for ever, and sends nothing"
_KEPT_WITH_DATA = "an id counts where there is data in its block, and not alone"

# Errors without an end, until the test had enough of them.
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
        "it looks at the beginning of the media type alone",
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    "media type text/event-stream, text/html": Difference(
        "it looks at the beginning of the media type alone",
        [OPEN, message("a"), AGAIN, END],
        [("", None)] * 2,
    ),
    **{
        f"media type {kind}, text/event-stream{parameters}": Difference(
            "it looks at the beginning of the media type alone", [END], [("", None)]
        )
        for kind, parameters in (("application/json", "; charset=utf-8"), ("text/html;charset=gbk", ""))
    },
    "coding that is no list": Difference(
        "its fetch() takes the body as it is", [OPEN, message("a"), AGAIN, END]
    ),
    "media type Text/Event-Stream": Difference(
        "it tells capital letters from small ones in the media type", [END], [("", None)]
    ),
    **{
        name: Difference(
            "it comes back to the URL that it was given, wherever that redirected to",
            visits=[*script.visits[:-1], ("", script.visits[-1][1])],
        )
        for name, script in REDIRECTS.items()
        if AGAIN in script.notes and script.visits[-1][0]
    },
}

# What else was so in older ones.
NODE_18 = {
    "redirect in Unicode": Difference(
        "its fetch() takes the bytes of a Location for Latin 1, where browsers take them for UTF-8",
        visits=[("", None), ("gr%C3%83%C2%B6%C3%83%C2%9Fe", None), ("", "1")],
    ),
}
