"""
Events as ``txsse tail`` prints them.
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
    def test_lines(self, event: ServerSentEvent, text: str) -> None:
        """
        One line has all, and data of several lines stands below, indented.
        """
        assert as_text(event, TIME) == text

    @pytest.mark.parametrize("character", ["\x1b", "\x07", "\x00", "\x7f", "\x9b", "\u2028", "\u202e", "\r"])
    def test_hostile_characters(self, character: str) -> None:
        """
        What could command the terminal is shown, and not sent to it, in no field.
        """
        event = ServerSentEvent(f"a{character}b").__class__._make((f"a{character}b", None, None, None))
        text = as_text(event, TIME)
        assert character not in text
        assert f"a\\u{ord(character):04x}b" in text

    def test_hostile_names(self) -> None:
        """
        The type and the id come from the server too.
        """
        text = as_text(ServerSentEvent("", "\x1b[2J", "\x1b]0;x"), TIME)
        assert "\x1b" not in text

    def test_colours(self) -> None:
        """
        They end where they begin.
        """
        text = as_text(ServerSentEvent("a", "tick", "7"), TIME, colours=True)
        assert text == "\x1b[2m12:34:56\x1b[0m \x1b[1mtick\x1b[0m \x1b[2mid 7\x1b[0m  a\n"


class OtherTests:
    def test_json(self) -> None:
        """
        An object on a line, whatever is in it.
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
        The data as it is, and the end of its line.
        """
        assert as_data(ServerSentEvent("a\nb\x1b", "tick", "7"), TIME) == "a\nb\x1b\n"
