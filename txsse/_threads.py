"""
Calls from another thread than the reactor's, which would damage what they touch without any error.

Strategy: what is called often compares two numbers itself, and calls :func:`refuse` only where they differ::

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
    :param called: what was called, such as ``hub.publish``.
    :param remedy: what to write instead; ``""`` for ``reactor.callFromThread``.
    :raises RuntimeError: in another thread.
    """
    if get_ident() != threadable.ioThread:
        refuse(reactor, called, remedy)


def refuse(reactor: object, called: str, remedy: str = "") -> None:
    """
    Raise, unless the reactor's thread is not known: before the reactor runs, and for a reactor that is not
    the process's own, such as a fake clock.
    """
    if threadable.ioThread is None or reactor is not sys.modules.get("twisted.internet.reactor"):
        return
    remedy = remedy or f"reactor.callFromThread({called}, ...)"
    raise RuntimeError(f"{called} was called from a thread that is not the reactor's; write {remedy}")
