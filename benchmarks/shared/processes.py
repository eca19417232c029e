"""
Child processes that are pinned to a core and measured through ``/proc``.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

P = TypeVar("P", bound="Process")

_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None)

# Seconds of CPU after which the kernel kills a process: more than the longest run takes.
_MOST_CPU = 600


class Failed(Exception):
    """
    Raised if a server or the load generator does not do what the scenario requires.
    """


@dataclass(frozen=True)
class Cpu:
    """
    The CPU that a process has used, in seconds.
    """

    total: float
    user: float
    system: float

    def __sub__(self, other: Cpu) -> Cpu:
        total = self.total - other.total
        user, system = self.user - other.user, self.system - other.system
        # The split is counted in ticks of 10 ms, the total in nanoseconds.
        part = user / (user + system) if user + system else 0
        return Cpu(total, total * part, total * (1 - part))


class Process:
    """
    A child process on one core.

    :param command: its command line.
    :param core: the core.
    :param folder: its working directory.
    :param environment: variables that are added to those of this process.
    :param errors: the file for its standard error.
    :param child: whether the figures are those of its only child, as with nginx and its worker.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        core: int,
        folder: Path,
        environment: dict[str, str] | None = None,
        errors: Path,
        child: bool = False,
    ) -> None:
        def prepare() -> None:
            os.sched_setaffinity(0, {core})
            resource.setrlimit(resource.RLIMIT_CPU, (_MOST_CPU, _MOST_CPU))
            # It gets SIGTERM when this process exits for any reason.
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

        self._errors = errors
        self._child = child
        with errors.open("wb") as file:
            self.popen = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                preexec_fn=prepare,
                bufsize=0,
            )

    @property
    def pid(self) -> int:
        """
        The id of the process whose figures count.
        """
        pid = self.popen.pid
        if self._child:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            if len(children) != 1:
                raise Failed(f"{len(children)} children where there must be one")
            return int(children[0])
        return pid

    def cpu(self) -> Cpu:
        """
        Return the CPU that the process has used, in all its threads.
        """
        process = Path(f"/proc/{self.pid}")
        nanoseconds = sum(
            int((task / "schedstat").read_text().split()[0]) for task in (process / "task").iterdir()
        )
        # The name, in parentheses, may hold blanks.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return Cpu(nanoseconds / 1e9, int(fields[11]) / _TICKS, int(fields[12]) / _TICKS)

    def resident(self) -> int:
        """
        Return the resident memory of the process, in bytes.
        """
        return self._memory("VmRSS")

    def forget_peak(self) -> None:
        """
        Reset the peak of the resident memory.

        Source: proc(5), ``clear_refs``
        """
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """
        Return the peak of the resident memory since :meth:`forget_peak`, in bytes.
        """
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise Failed("the process has exited")

    def complaint(self) -> str:
        """
        Return the last line that the process wrote to its standard error.
        """
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self) -> None:
        """
        Stop the process: first with SIGTERM, because nginx stops its worker only then, later with SIGKILL.
        """
        for ask in (self.popen.terminate, self.popen.kill):
            if self.popen.poll() is None:
                ask()
                try:
                    self.popen.wait(3)
                except subprocess.TimeoutExpired:
                    continue
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def ending(process: P) -> Iterator[P]:
    """
    Stop a process at the end of the context.
    """
    try:
        yield process
    finally:
        process.end()
