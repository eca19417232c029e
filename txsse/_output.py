"""
What commands print: on a stdout that may be closed, full, or read no more, and on a terminal that must not
act on text of others.
"""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from typing import TextIO

from txsse._redact import without_secrets

__all__ = ["Unwritable", "complain", "give_up", "put", "visible"]

# Unicode's general categories of what commands a terminal or deceives its reader: controls, format characters
# such as bidirectional overrides, surrogates, line and paragraph separators. And what is not assigned yet:
# a terminal may know a later Unicode than Python does. Private use stays: it shows a glyph or a box.
_UNSAFE = frozenset(["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"])


class Unwritable(Exception):
    """
    It cannot be printed; the message says why.

    :ivar unread: whether that is since whoever read it has seen enough.
    """

    def __init__(self, problem: str, *, unread: bool = False) -> None:
        super().__init__(problem)
        self.unread = unread


def put(out: TextIO | None, text: str) -> None:
    """
    Print a text at once: what Python flushes at its exit can fail without a message in one line. Characters
    that the encoding of ``out`` does not have are escaped.

    :param out: where to print; ``None`` if the parent process closed it.
    :raises Unwritable: where that is not possible.
    """
    if out is None:
        raise Unwritable("stdout is closed")
    try:
        encoding = out.encoding or "utf-8"
        out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        out.flush()
    except OSError as error:
        raise give_up(out, error) from None


def give_up(out: TextIO, error: OSError) -> Unwritable:
    """
    Print no more. What is left goes nowhere: Python would try once more at its end, and print a traceback.

    :returns: what that means.
    """
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    problem = f"stdout cannot be written: {error.strerror}"
    return Unwritable(problem, unread=isinstance(error, BrokenPipeError))


def complain(err: TextIO, command: str, problem: object) -> None:
    """
    Print in one line what is wrong.

    :param err: where to print.
    :param command: the command, such as ``txsse tail``.
    :param problem: what is wrong. It may hold text of others, and URLs with secrets in them.
    """
    err.write(f"{command}: {visible(without_secrets(str(problem)))}\n")


def visible(text: str, *, keep: str = "") -> str:
    """
    Escape what a terminal would act on, as in JSON and Python: ``\\u001b``, ``\\U000e0001``.

    :param text: what a server, a file or a user wrote.
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
