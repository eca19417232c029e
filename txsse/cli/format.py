"""
Format events for the output of ``txsse tail``.

Strategy: one function for each format takes an event and its time, and returns the text of its lines; it does
no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime

from txsse._output import visible
from txsse.protocol.event import ServerSentEvent

__all__ = ["Show", "as_data", "as_json", "as_text", "as_visible_data"]

Show = Callable[[ServerSentEvent, datetime], str]

_DIM, _BOLD, _PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[0m"


def as_json(event: ServerSentEvent, time: datetime) -> str:
    """
    Return one JSON object on one line.
    """
    fields = {"time": time.isoformat(), "event": event.event, "id": event.id, "data": event.data}
    # Only ASCII: a reader need not know the encoding, and U+2028 does not end a line.
    return json.dumps(fields) + "\n"


def as_data(event: ServerSentEvent, time: datetime) -> str:
    """
    Return the data unchanged, for a file or another program.
    """
    return event.data + "\n"


def as_visible_data(event: ServerSentEvent, time: datetime) -> str:
    """
    Return the data for a terminal, with control characters made visible.
    """
    return visible(event.data, keep="\n") + "\n"


def as_text(event: ServerSentEvent, time: datetime, *, colours: bool = False) -> str:
    """
    Return time, type, ID and data for a human reader; further lines of the data are indented.
    """
    dim, bold, plain = (_DIM, _BOLD, _PLAIN) if colours else ("", "", "")
    first, *rest = map(visible, event.data.split("\n"))
    named = f" {dim}id {visible(event.id)}{plain}" if event.id else ""
    head = f"{dim}{time:%H:%M:%S}{plain} {bold}{visible(event.event or 'message')}{plain}{named}"
    lines = [f"{head}  {first}" if not rest else head]
    if rest:
        lines += [f"    {line}" for line in (first, *rest)]
    return "\n".join(lines) + "\n"
