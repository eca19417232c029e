"""
The output formats of ``txsse tail``.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from txsse import ServerSentEvent
from txsse.cli.format import as_data, as_json, as_text

TIME = datetime(2026, 11, 22, 12, 34, 56, tzinfo=UTC)


class TextTests:
    @pytest.mark.parametrize(
        ("event", "text"),
        [
            (ServerSentEvent("a", "message", ""), "12:34:56 message  a\n"),
            (ServerSentEvent("a", "tick", "7"), "12:34:56 tick id 7  a\n"),
            (ServerSentEvent("", "tick", "7"), "12:34:56 tick id 7  \n"),
            (ServerSentEvent("a\n\nb", "tick", "7"), "12:34:56 tick id 7\n    a\n    \n    b\n"),
        ],
    )
    def test_layout(self, event: ServerSentEvent, text: str) -> None:
        """
        The text format prints an event on one line, or data of several lines indented below time, type and
        id.
        """
        assert as_text(event, TIME) == text

    @pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\r"])
    def test_hostile_characters(self, character: str) -> None:
        """
        The text format escapes control characters in the data, which could command the terminal.
        """
        event = ServerSentEvent(f"a{character}b").__class__._make((f"a{character}b", None, None, None))
        text = as_text(event, TIME)
        assert character not in text
        assert f"a\\u{ord(character):04x}b" in text

    def test_hostile_names(self) -> None:
        """
        The text format escapes control characters in the type and the id.
        """
        text = as_text(ServerSentEvent("", "\x1b[2J", "\x1b]0;x"), TIME)
        assert "\x1b" not in text

    def test_colours(self) -> None:
        """
        The text format resets each colour at the end of its field.
        """
        text = as_text(ServerSentEvent("a", "tick", "7"), TIME, colours=True)
        assert text == "\x1b[2m12:34:56\x1b[0m \x1b[1mtick\x1b[0m \x1b[2mid 7\x1b[0m  a\n"


class OtherTests:
    def test_json(self) -> None:
        """
        The JSON format prints each event as one line in ASCII, whatever the event contains.
        """
        line = as_json(ServerSentEvent("a\n\u2028ä", "tick", "7"), TIME)
        assert line.count("\n") == 1 and line.isascii()
        assert json.loads(line) == {
            "time": "2026-11-22T12:34:56+00:00",
            "event": "tick",
            "id": "7",
            "data": "a\n\u2028ä",
        }

    def test_data(self) -> None:
        """
        The data format prints the data unchanged, followed by a line end.
        """
        assert as_data(ServerSentEvent("a\nb\x1b", "tick", "7"), TIME) == "a\nb\x1b\n"
