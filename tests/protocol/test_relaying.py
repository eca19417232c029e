"""
Relays: events that are parsed from one stream and encoded to another.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from txsse import EventStreamParser, ServerSentEvent, encode_event

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=5)


@st.composite
def blocks(draw: st.DrawFn) -> str:
    """
    Draw a block of a stream; each field but the data may be missing or empty.
    """
    lines = [
        f"{name}: {value}\n" for name in ("id", "event") if (value := draw(st.none() | TEXTS)) is not None
    ]
    return "".join([*lines, f"data: {draw(TEXTS)}\n\n"])


def read(stream: str, last_event_id: str = "") -> tuple[list[ServerSentEvent], str]:
    parser = EventStreamParser(last_event_id=last_event_id)
    return parser.feed(stream.encode()), parser.last_event_id


def sent_on(events: list[ServerSentEvent]) -> str:
    return b"".join(map(encode_event, events)).decode()


@given(st.lists(blocks(), max_size=100), st.sampled_from(["", "7"]))
def test_same_events_through_a_relay(stream: list[str], last_event_id: str) -> None:
    """
    A client of a relay receives the events, and has the last event ID, of a client of the original stream.
    """
    given_stream = "".join(stream)
    relayed = sent_on(read(given_stream)[0])
    assert read(relayed, last_event_id) == read(given_stream, last_event_id)


@pytest.mark.parametrize("repeated", [1, 100])
def test_missing_type_and_id(repeated: int) -> None:
    """
    A type or an id that the original stream does not have is not encoded by a relay.
    """
    events, _ = read("data: x\n\n" * repeated)
    assert events == [ServerSentEvent("x", "message", "")] * repeated
    assert sent_on(events) == "data: x\n\n" * repeated


def test_default_type_and_empty_id() -> None:
    """
    A type or an id of the original stream is encoded by a relay, also if it is the default or empty.
    """
    stream = "id: \nevent: message\ndata: x\n\n"
    assert sent_on(read(stream)[0]) == stream


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        lambda event: pickle.loads(pickle.dumps(event)),
        lambda event: pickle.loads(pickle.dumps(event, 0)),
        lambda event: event._replace(data="x"),
        lambda event: ServerSentEvent("x", event.event, event.id),
    ],
)
def test_copies(copied: Callable[[ServerSentEvent], Any]) -> None:
    """
    A copy of a parsed event is encoded like the event itself.
    """
    (event,), _ = read("data: x\n\n")
    assert copied(event) == event
    assert encode_event(copied(event)) == b"data: x\n\n"
