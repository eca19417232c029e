"""
Refuses calls from any other thread than the reactor's, which would corrupt state without an error.

Strategy: a frequently called function compares two numbers itself, and calls :func:`refuse` if they differ::

    if get_ident() != threadable.ioThread:
        refuse(reactor, "channel.send")
"""

from __future__ import annotations

import sys
from threading import get_ident

from twisted.python import threadable

__all__ = ["check_thread", "get_ident", "refuse", "threadable"]


def check_thread(reactor: object, called: str, remedy: str = "") -> None:
    """
    Check that the caller is in the reactor's thread.

    :param reactor: the reactor.
    :param called: the called function, such as ``hub.publish``.
    :param remedy: the code to write instead; ``""`` for ``reactor.callFromThread``.
    :raises RuntimeError: in another thread.
    """
    if get_ident() != threadable.ioThread:
        refuse(reactor, called, remedy)


def refuse(reactor: object, called: str, remedy: str = "") -> None:
    """
    Raise :exc:`RuntimeError`, unless the reactor's thread is unknown.

    It is unknown before the reactor runs, and for a reactor that is not the process's own, such as a fake
    clock.
    """
    if threadable.ioThread is None or reactor is not sys.modules.get("twisted.internet.reactor"):
        return
    remedy = remedy or f"reactor.callFromThread({called}, ...)"
    raise RuntimeError(f"{called} was called from a thread that is not the reactor's; write {remedy}")
