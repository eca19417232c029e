"""
The characters that a topic, an id or a type may contain: all but control characters, format characters and
surrogates.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unicodedata import category

import pytest

from tests.mercure.world import MercureWorld, old_token, token
from txsse.mercure.characters import check_text, is_clean
from txsse.mercure.errors import BadRequest


class CleanTests:
    @pytest.mark.slow
    def test_every_character(self) -> None:
        """
        Control characters, format characters and surrogates are the only characters that a text may not
        contain.
        """
        dirty = {chr(code) for code in range(sys.maxunicode + 1) if not is_clean(chr(code))}
        assert dirty == {
            chr(code) for code in range(sys.maxunicode + 1) if category(chr(code)) in ("Cc", "Cf", "Cs")
        }
        assert {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} <= dirty
        assert {*"\u00ad\u061c\u200b\u200e\u202e\u2060\u2066\ufeff\ud800\udfff\U000e0001"} <= dirty

    @pytest.mark.parametrize(
        "text", ["", " ", "~", "a b", "é", "\u00a0", "日本語", "😀", "\u2764\ufe0f", "e\u0301", "\U0010ffff"]
    )
    def test_clean(self, text: str) -> None:
        """
        A text may contain spaces, letters of every script, combining characters and unassigned code points.
        """
        assert is_clean(text)
        assert check_text("topic", text) == text

    @pytest.mark.parametrize(
        "character", ["\0", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\x9f", "\u200d", "\ud800"]
    )
    @pytest.mark.parametrize("around", ["{}", "a{}", "{}a", "aé{}bé"])
    def test_anywhere(self, character: str, around: str) -> None:
        """
        A forbidden character is found at any offset of a text, and the error names the text's field.
        """
        text = around.format(character)
        assert not is_clean(text)
        with pytest.raises(
            BadRequest, match=r"^topic holds a control character or a format character$"
        ) as raised:
            check_text("topic", text)
        assert raised.value.status == 400


# U+FE0F, a variation selector, is invisible, but neither a control (Cc) nor a format character (Cf).
HEART = "https://a.example/\u2764\ufe0f"


class VariationSelectorTests:
    """
    A character without a glyph is accepted unless it is a control or format character.
    """

    @pytest.mark.parametrize(
        "wanted",
        [
            ("match", HEART),
            ("match_urlpattern", HEART),
            ("match_urlpattern", "https://a.example/:x"),
            ("topic", HEART),
            ("topic", "https://a.example/{x}"),
        ],
    )
    @pytest.mark.parametrize(
        "granted", [HEART, {"match": HEART, "match_type": "urlpattern"}, {"match": "https://a.example/{x}"}]
    )
    def test_topic(self, new: Callable[..., MercureWorld], wanted: tuple[str, str], granted: Any) -> None:
        """
        Matchers of every type and grants of every type select a topic with U+2764 U+FE0F.
        """
        world = new(compatibility=True)
        if isinstance(granted, dict) and "match_type" not in granted:
            publisher, reader = old_token(publish=[granted["match"]]), old_token(subscribe=[granted["match"]])
        else:
            publisher, reader = token(publish=[granted]), token(subscribe=[granted])
        stream = world.subscribe(token=reader, more=[wanted])
        answer = world.publish(HEART, "\u2764\ufe0f", token=publisher, private="on", id=HEART, type=HEART)
        assert (answer.status, stream.status) == (200, 200)
        assert [(event.id, event.event) for event in stream.events if event.event == HEART] == [
            (HEART, HEART)
        ]
