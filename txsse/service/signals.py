"""
The signals that end the service.

SIGTERM and SIGINT are the reactor's: the first one drains the service. Here SIGHUP does so too, and a second
SIGTERM or SIGINT ends the process at once: the reactor would log a traceback for it, and go on to drain.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from twisted.logger import Logger

__all__ = ["take_signals"]

_log = Logger()

# One order to stop may come as two signals: GNU timeout sends one to its child, and one to the process group;
# Ctrl-C comes from the terminal, and from a parent that forwards it. What follows the first one within half a
# second is ignored.
_SAME_ORDER = 0.5

# A terminal that closes sends SIGHUP, often twice; nohup has it ignored. There is none on Windows.
_SIGHUP: int | None = getattr(signal, "SIGHUP", None)


def take_signals(reactor: Any) -> None:
    """
    Take the signals when the reactor has started and has taken its own. Do nothing if it takes none, or runs
    already.
    """
    # Fakes have no such attribute.
    if not getattr(reactor, "running", True):
        reactor.addSystemEventTrigger("after", "startup", _Signals(reactor).take)


class _Signals:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._stopping: float | None = None

    def take(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        number: int
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)
            if not callable(before):
                return
            self._before[number] = before
        for number in self._before:
            signal.signal(number, self._ended)
        if _SIGHUP is not None and signal.getsignal(_SIGHUP) is signal.SIG_DFL:
            signal.signal(_SIGHUP, self._hung_up)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._note)

    def _note(self) -> None:
        if self._stopping is None:
            self._stopping = time.monotonic()

    def _hung_up(self, number: int, frame: FrameType | None) -> None:
        if self._stopping is None:
            self._note()
            _log.info("Received SIGHUP, shutting down.")
            self._reactor.callFromThread(self._reactor.stop)

    def _ended(self, number: int, frame: FrameType | None) -> None:
        if self._stopping is None:
            self._note()
            self._before[number](number, frame)
        elif time.monotonic() - self._stopping > _SAME_ORDER:
            # The handler may have interrupted the very code that it needs to log.
            with suppress(Exception):
                _log.warn("Received {name} again, ending at once.", name=signal.Signals(number).name)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
