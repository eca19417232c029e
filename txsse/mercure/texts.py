"""
The characters that topics, matchers, ids and types may have.
"""

from __future__ import annotations

from unicodedata import category

from txsse.mercure.refusal import BadRequest

__all__ = ["check_text", "is_clean"]


def is_clean(text: str) -> bool:
    """
    Tell whether a text has no control characters (C0, C1 and DEL), and none of those that format, which are
    invisible: a name with one looks like the name without.
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
        raise BadRequest(f"{name} holds a control character, or an invisible one")
    return text
