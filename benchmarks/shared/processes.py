"""
Processes that are pinned to a core, watched through ``/proc``, and ended by whoever started them.
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

# More than the longest run takes, in seconds of CPU; should all else fail, the kernel ends it.
_MOST_CPU = 600


class Failed(Exception):
    """
    A server, or the load generator, did not do what the scenario asks for.
    """


@dataclass(frozen=True)
class Cpu:
    """
    What a process has used, in seconds.
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
    A process on one core.

    :param command: its command line.
    :param core: the core.
    :param folder: where it runs.
    :param environment: what is added to ours.
    :param errors: where its standard error goes.
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
            # It ends with us, however we end.
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
        The process whose figures count.
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
        Tell what the process has used, with all of its threads.
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
        Tell how many bytes of memory the process has.
        """
        return self._memory("VmRSS")

    def forget_peak(self) -> None:
        """
        Count the peak of the memory from now on.

        Source: proc(5), ``clear_refs``
        """
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def peak(self) -> int:
        """
        Tell how many bytes of memory the process had at most.
        """
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise Failed("the process has ended")

    def complaint(self) -> str:
        """
        Return the last line that the process wrote to its standard error.
        """
        lines = self._errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    def end(self) -> None:
        """
        End the process: at first politely, since nginx ends its worker only then.
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
    End a process in the end.
    """
    try:
        yield process
    finally:
        process.end()
