"""
The characters that topics, matchers, ids and types may have.
"""

from __future__ import annotations

from unicodedata import category

from txsse.mercure.errors import BadRequest

__all__ = ["check_text", "is_clean"]


def is_clean(text: str) -> bool:
    """
    Tell whether a text holds no control character (C0, C1, DEL), no format character (Cf) and no lone
    surrogate. A name with a format character, such as a zero-width space, looks like the name without.

    Other characters without a glyph are allowed, as the draft of Mercure allows them: a variation selector
    is part of many emoji (U+FE0F in U+2764 U+FE0F).
    """
    if text.isascii():
        return text.isprintable()
    return not any(category(character) in ("Cc", "Cf", "Cs") for character in text)


def check_text(name: str, text: str) -> str:
    """
    Return a text that is clean.

    :param name: what it is, for the error.
    :raises BadRequest: for one that is not.
    """
    if not is_clean(text):
        raise BadRequest(f"{name} holds a control character or a format character")
    return text
