"""
A journal in a file, in a process that becomes a daemon.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.hub.fakes import outcome_of
from txsse import JournalFailed, ServerSentEvent, Update
from txsse.hub.sqlite import SQLiteJournal

ROOT = Path(__file__).parent.parent.parent

PROGRAM = """
import os, sys, time
from twisted.internet import reactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from txsse import Hub
from txsse.hub.sqlite import SQLiteJournal

path, waits = sys.argv[1:]
hub = Hub(journal=SQLiteJournal(path))
published = hub.publish("news", "before")
published.addErrback(lambda failure: print("publish:", failure.type.__name__))
if waits == "opened":
    # The thread has answered, though the reactor has not been told.
    while not reactor.threadCallQueue:
        time.sleep(0.01)
child = os.fork()
if child:
    os.waitpid(child, 0)
    os._exit(0)
globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
reactor.addSystemEventTrigger("before", "shutdown", hub.stop, deadline=1.0)
reactor.callLater(0.1, reactor.stop)
reactor.run()
print("ended", flush=True)
os._exit(0)
"""


class ForkTests:
    @pytest.mark.parametrize("waits", ["opening", "opened"])
    def test_opened_before(self, waits: str, tmp_path: Path) -> None:
        """
        One line says so, what was published fails, and the process ends.
        """
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "hub.sqlite"), waits],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.count("was opened by process") == 1, done.stdout + done.stderr
        assert "publish: JournalFailed" in done.stdout
        assert done.stdout.endswith("ended\n")
        assert "Traceback" not in done.stdout + done.stderr

    def test_every_call_fails(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        What is asked of it fails at once, and it can be stopped.
        """

        class Reactor(Clock):
            """
            A reactor that does not run yet.
            """

            def __init__(self) -> None:
                super().__init__()
                self.when_running: list[Callable[[], object]] = []
                self.removed: list[object] = []

            def addSystemEventTrigger(self, *trigger: Any) -> object:  # noqa: N802
                return trigger

            def removeSystemEventTrigger(self, trigger: object) -> None:  # noqa: N802
                self.removed.append(trigger)

            def callWhenRunning(self, call: Any, *arguments: Any) -> None:  # noqa: N802
                self.when_running.append(lambda: call(*arguments))

            def callFromThread(self, *_: object) -> None:  # noqa: N802
                pass

        reactor = Reactor()
        journal = SQLiteJournal(tmp_path / "hub.sqlite", reactor=reactor)  # type: ignore[arg-type]
        started = outcome_of(journal.start(None))  # type: ignore[arg-type]
        threads = journal._threads
        assert threads is not None
        process = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: process + 1)
        for call in reactor.when_running * 2:
            call()
        threads.stop()
        assert [type(each) for each in started] == [JournalFailed]
        appended = outcome_of(journal.append(Update("news", ServerSentEvent("a", id="1"))))
        assert [type(each) for each in appended] == [JournalFailed]
        assert "was opened by process" in str(journal.problem)
        assert outcome_of(journal.stop()) == [None]
        assert len(reactor.removed) == 1
