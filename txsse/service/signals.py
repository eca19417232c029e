"""
The signals that stop the service.

The reactor handles SIGTERM and SIGINT: the first one drains the service. This module makes SIGHUP do the
same, and a second SIGTERM or SIGINT end the process at once: the reactor would log a traceback for it, and
continue to drain.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import cast

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from txsse._twisted.types import CoreReactor

__all__ = ["take_signals"]

_log = Logger()

# One request to stop may arrive as two signals: GNU timeout sends one to its child, and one to the process
# group; Ctrl-C arrives from the terminal, and from a parent that forwards it. A signal within this time after
# the first one is ignored, in seconds.
_SAME_ORDER = 0.5

# A terminal that closes sends SIGHUP, often twice; nohup makes the process ignore it. Windows does not have
# it.
_SIGHUP: int | None = getattr(signal, "SIGHUP", None)


def take_signals(reactor: IReactorTime) -> None:
    """
    Install the signal handlers when the reactor has started and has installed its own.

    Do nothing if the reactor installs none, or runs already.
    """
    # Fake reactors do not have this attribute.
    if not getattr(reactor, "running", True):
        core = cast(CoreReactor, reactor)
        core.addSystemEventTrigger("after", "startup", _Signals(core).take)


class _Signals:
    def __init__(self, reactor: CoreReactor) -> None:
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
            # The signal may have interrupted the logging code that this line needs.
            with suppress(Exception):
                _log.warn("Received {name} again, exiting at once.", name=signal.Signals(number).name)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
