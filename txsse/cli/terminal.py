"""
Text of others, made safe for a terminal.
"""

from __future__ import annotations

import unicodedata
from typing import TextIO

from txsse._redact import without_secrets

__all__ = ["complain", "visible"]

# Unicode's general categories of what commands a terminal or deceives its reader: controls, format characters
# such as bidirectional overrides, surrogates, line and paragraph separators. And what is not assigned yet:
# a terminal may know a later Unicode than Python does. Private use stays: it shows a glyph or a box.
_UNSAFE = frozenset(["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"])


def complain(err: TextIO, command: str, problem: object) -> None:
    """
    Say in one line what is wrong.

    :param err: where to.
    :param command: who says it, such as ``txsse tail``.
    :param problem: what is wrong, in which there may be words of others, and URLs with secrets in them.
    """
    err.write(f"{command}: {visible(without_secrets(str(problem)))}\n")


def visible(text: str, *, keep: str = "") -> str:
    """
    Escape what a terminal would act on, as in JSON and Python: ``\\u001b``, ``\\U000e0001``.

    :param text: what a server, a file or a user said.
    :param keep: characters that stay although they are controls, such as a line feed.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escaped(each) if unicodedata.category(each) in _UNSAFE and each not in keep else each
        for each in text
    )


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
