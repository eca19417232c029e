"""
What commands print on stdout, which may be closed, full, or read no more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TextIO

__all__ = ["Unwritable", "give_up", "put"]


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
    Print a text, now: what Python writes at its end can fail without anybody being told in one line.

    :param out: where to; ``None`` where that was closed by whoever started this.
    :raises Unwritable: where that is not possible.
    """
    if out is None:
        raise Unwritable("stdout is closed")
    try:
        out.write(text)
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
