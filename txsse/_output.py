"""
Output of the commands: to a stdout that may fail, and without control characters from untrusted text.

Stdout may be closed or full, or its reader may have exited. Text of a server, a file or a user must not
control the terminal.
"""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from typing import TextIO

from txsse._redact import without_secrets

__all__ = ["Unwritable", "complain", "give_up", "put", "visible"]

# Unicode's general categories of characters that control a terminal or deceive its reader: controls, format
# characters such as bidirectional overrides, surrogates, line and paragraph separators. Unassigned characters
# are among them: a terminal may know a later Unicode than Python does. Private-use characters are not: they
# show a glyph or a box.
_UNSAFE = frozenset(["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"])


class Unwritable(Exception):
    """
    Stdout cannot be written; the message says why.

    :ivar unread: whether its reader has exited, such as ``head``; this needs no message.
    """

    def __init__(self, problem: str, *, unread: bool = False) -> None:
        super().__init__(problem)
        self.unread = unread


def put(out: TextIO | None, text: str) -> None:
    """
    Print a text and flush it; characters that the encoding of ``out`` lacks are escaped.

    If Python flushed it at exit, a failure would print a traceback.

    :param out: the stream; ``None`` if the parent process closed it.
    :raises Unwritable: if the stream cannot be written.
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
    Discard the rest of the output, and return the error to raise.

    Otherwise Python would flush the rest at exit, fail, and print a traceback.
    """
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
    problem = f"stdout cannot be written: {error.strerror}"
    return Unwritable(problem, unread=isinstance(error, BrokenPipeError))


def complain(err: TextIO, command: str, problem: object) -> None:
    """
    Print an error in one line, without the secrets of its URLs and without control characters.

    :param err: the stream.
    :param command: the command, such as ``txsse tail``.
    :param problem: the error. It may contain untrusted text, and URLs with secrets.
    """
    err.write(f"{command}: {visible(without_secrets(str(problem)))}\n")


def visible(text: str, *, keep: str = "") -> str:
    r"""
    Escape characters that control a terminal, as JSON and Python do: ``\u001b``, ``\U000e0001``.

    :param text: the text of a server, a file or a user.
    :param keep: control characters that are not escaped, such as a line feed.
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
