"""
Samples of the service's memory, descriptors and temporary files, and their maxima.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.processes import Failed, Process

from abusing.wire import MIB

__all__ = ["Sample", "Sampler", "sample"]

# The service is killed when its memory has grown by this, before the machine runs out of memory.
_MOST_MEMORY = 1500 * MIB


@dataclass(frozen=True)
class Sample:
    """
    The resources that a service holds at one moment.

    :ivar memory: its resident memory, in bytes.
    :ivar descriptors: how many descriptors it has open.
    :ivar files: the bytes of the temporary files among them, which have no name.
    """

    memory: int
    descriptors: int
    files: int


def sample(process: Process, temporary: Path) -> Sample:
    """
    Take a sample of a service.

    :param temporary: its folder for temporary files.
    """
    place, prefix = f"/proc/{process.pid}/fd", str(temporary)
    names, files = os.listdir(place), 0
    for name in names:
        with suppress(OSError):
            if os.readlink(f"{place}/{name}").startswith(prefix):
                files += os.stat(f"{place}/{name}").st_size
    return Sample(process.resident(), len(names), files)


class Sampler(threading.Thread):
    """
    A context that samples a service periodically and keeps the maxima.

    :ivar problem: why it has killed the service; empty if it has not.
    """

    def __init__(self, process: Process, temporary: Path) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._temporary = temporary
        self._over = threading.Event()
        self._limit = process.resident() + _MOST_MEMORY
        self.memory = self.descriptors = self.files = 0
        self.problem = ""

    def __enter__(self) -> Sampler:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(0.03):
            try:
                found = sample(self._process, self._temporary)
            except (OSError, Failed):
                return
            for name, value in asdict(found).items():
                setattr(self, name, max(getattr(self, name), value))
            if found.memory > self._limit:
                self.problem = f"this script killed it, at +{_MOST_MEMORY // MIB} MiB"
                self._process.popen.kill()
                return
