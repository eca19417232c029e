"""
Which characters texts may have.
"""

from __future__ import annotations

import sys
from unicodedata import category

import pytest

from txsse.mercure.refusal import BadRequest
from txsse.mercure.texts import check_text, is_clean


class CleanTests:
    def test_every_character(self) -> None:
        """
        Control characters, surrogates and what formats invisibly are not clean; all others are.
        """
        dirty = {chr(code) for code in range(sys.maxunicode + 1) if not is_clean(chr(code))}
        assert dirty == {
            chr(code) for code in range(sys.maxunicode + 1) if category(chr(code)) in ("Cc", "Cf", "Cs")
        }
        assert {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} <= dirty
        assert {*"\u00ad\u061c\u200b\u200e\u202e\u2060\u2066\ufeff\ud800\udfff\U000e0001"} <= dirty

    @pytest.mark.parametrize(
        "text", ["", " ", "~", "a b", "é", "\u00a0", "日本語", "😀", "e\u0301", "\U0010ffff"]
    )
    def test_clean(self, text: str) -> None:
        """
        Spaces, letters of every script, what combines and what is not assigned are.
        """
        assert is_clean(text)
        assert check_text("topic", text) == text

    @pytest.mark.parametrize(
        "character", ["\0", "\t", "\n", "\r", "\x1f", "\x7f", "\x80", "\x9f", "\u200d", "\ud800"]
    )
    @pytest.mark.parametrize("around", ["{}", "a{}", "{}a", "aé{}bé"])
    def test_anywhere(self, character: str, around: str) -> None:
        """
        One that is not is found wherever it stands, and the error names what it is in.
        """
        text = around.format(character)
        assert not is_clean(text)
        with pytest.raises(
            BadRequest, match=r"^topic holds a control character, or an invisible one$"
        ) as raised:
            check_text("topic", text)
        assert raised.value.status == 400
