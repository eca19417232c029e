"""
The characters that topics, matchers, IDs and event types may contain.
"""

from __future__ import annotations

from unicodedata import category

from txsse.mercure.errors import BadRequest

__all__ = ["check_text", "is_clean"]


def is_clean(text: str) -> bool:
    """
    Return whether a text has no control character (C0, C1, DEL), format character (Cf) or lone surrogate.

    A name with a format character, such as a zero-width space, looks the same as the name without it. Other
    characters without a glyph are allowed, as in the Mercure draft: a variation selector is part of many
    emoji (U+FE0F in U+2764 U+FE0F).
    """
    if text.isascii():
        return text.isprintable()
    return not any(category(character) in ("Cc", "Cf", "Cs") for character in text)


def check_text(name: str, text: str) -> str:
    """
    Return a text, or raise an error if it contains a character that is not allowed.

    :param name: what the text is, for the error.
    :raises BadRequest: if :func:`is_clean` is false for the text.
    """
    if not is_clean(text):
        raise BadRequest(f"{name} holds a control character or a format character")
    return text
