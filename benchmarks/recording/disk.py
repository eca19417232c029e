"""
The file system of the journals, and the speed of its disk.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

__all__ = ["file_system", "sync_seconds"]


def file_system(folder: Path) -> str:
    """
    Return the type of the file system that a folder is on.

    Source: proc(5), ``mountinfo``
    """
    found = ""
    name = "unknown"
    path = str(folder.resolve())
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, system = line.partition(" - ")
        point = mount.split()[4]
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(found):
            found, name = point, system.split()[0]
    return name


def sync_seconds(folder: Path) -> float:
    """
    Return how long four kilobytes take to reach the disk, in seconds: a lower bound for durable journals.
    """
    path = folder / "sync-probe"
    times = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(50):
                began = time.perf_counter()
                file.write(bytes(4096))
                os.fdatasync(file.fileno())
                times.append(time.perf_counter() - began)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(times)
