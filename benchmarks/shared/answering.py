"""
Child processes that read commands from stdin and write their answers to stdout.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.processes import Failed, Process


class Answering(Process):
    """
    A process that reads commands from stdin, one per line, and writes answers as lines of JSON.

    :param name: its name in error messages.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int,
        folder: Path,
        environment: dict[str, str] | None = None,
        errors: Path,
    ) -> None:
        super().__init__(command, core=core, folder=folder, environment=environment, errors=errors)
        self._name = name
        self._lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, *words: object) -> None:
        """
        Send a command.

        :raises Failed: if the process has exited.
        """
        assert self.popen.stdin is not None
        try:
            self.popen.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        except OSError:
            raise self._ended() from None

    def receive(self, seconds: float) -> Any:
        """
        Wait for the next line, and return its value.

        :raises queue.Empty: if no line arrives in time.
        :raises Failed: if the process has exited.
        """
        line = self._lines.get(timeout=max(0, seconds))
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> Failed:
        return Failed(f"the {self._name} has exited: {self.complaint()}")

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with os.fdopen(os.dup(self.popen.stdout.fileno()), "rb") as pipe:
            for line in pipe:
                self._lines.put(line)
        self._lines.put(b"")


class Load(Answering):
    """
    A load generator: see ``subscribers.h``.

    :ivar connected: how many subscribers have a stream.
    """

    def __init__(self, command: Sequence[str], *, core: int, folder: Path, errors: Path) -> None:
        super().__init__("load generator", command, core=core, folder=folder, errors=errors)
        self.connected = 0
        self._deadline = 0.0

    def ask(self, command: str, *values: float, seconds: float) -> None:
        """
        Send a command that takes at most some seconds; :meth:`answer` waits for it.
        """
        self._deadline = time.monotonic() + seconds + 5
        self.send(command, *values, seconds)

    def answer(self) -> dict[str, Any]:
        """
        Wait for the answer to the last command.

        :raises Failed: if a subscriber missed an event, received it twice, or was disconnected.
        """
        try:
            answer: dict[str, Any] = self.receive(self._deadline - time.monotonic())
        except queue.Empty:
            raise Failed("the load generator does not answer") from None
        if answer["wrong"] or answer["refused"] or answer["closed"]:
            raise Failed(
                f"{answer['wrong']} wrong events, {answer['refused']} refused, {answer['closed']} closed; "
                f"first {answer['complaint'].rstrip(': ')}"
            )
        return answer

    def connect(self, count: int, *, seconds: float) -> float:
        """
        Open more subscribers.

        :returns: how many seconds it took.
        """
        self.ask("connect", count, seconds=seconds)
        answer = self.answer()
        wanted = self.connected + count
        self.connected = answer["connected"]
        if self.connected < wanted:
            raise Failed(f"{self.connected} of {wanted} have a stream after {seconds:g} s")
        took: float = answer["seconds"]
        return took

    def check_silent(self, seconds: float) -> None:
        """
        Check that no more events arrive.
        """
        self.ask("watch", seconds=seconds)
        if self.answer()["events"]:
            raise Failed("there are more events than were published")
