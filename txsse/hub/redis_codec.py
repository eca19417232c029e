"""
Updates as entries of a stream, and back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from txsse.hub.timeline import to_number
from txsse.hub.update import Update
from txsse.protocol.event import ServerSentEvent

__all__ = ["NOT_OURS", "time_of", "to_arguments", "to_update", "to_updates"]

# What reading an entry raises that no hub has written.
NOT_OURS = (KeyError, ValueError, TypeError)


def to_arguments(update: Update) -> tuple[str, ...]:
    """
    Write an update as the script takes it.
    """
    event = update.event
    given = "".join("01"[here] for here in (event.event is not None, event.retry is not None, update.private))
    return (
        update.id,
        json.dumps(update.topics, ensure_ascii=False),
        event.event or "",
        "" if event.retry is None else repr(event.retry),
        "1",
        event.data,
        given,
    )


def to_update(entry: Any) -> tuple[int, int, Update]:
    """
    Read an entry: its number, that of the one before it, and the update.
    """
    number, flat = entry
    fields = {name: value.decode() for name, value in zip(flat[::2], flat[1::2], strict=True)}
    retry = fields.get(b"retry")
    event = ServerSentEvent(
        fields[b"data"], fields.get(b"event"), fields[b"id"], None if retry is None else float(retry)
    )
    update = Update(json.loads(fields[b"topics"]), event, private=b"private" in fields)
    return to_number(number), to_number(fields[b"after"]), update


def to_updates(entries: Iterable[Any]) -> Iterator[tuple[int, Update]]:
    """
    Read entries with their numbers, but for those that are none of a hub's.
    """
    for entry in entries:
        with suppress(*NOT_OURS):
            number, _, update = to_update(entry)
            yield number, update


def time_of(number: int) -> float:
    """
    Return when an entry was made, in seconds.
    """
    return (number >> 64) / 1000
