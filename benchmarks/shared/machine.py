"""
The machine: what it is called, its cores, and how many files it lets us open.
"""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

from shared.processes import Failed


def describe_machine() -> str:
    """
    Name the processor and the system's version.
    """
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {platform.system()} {platform.release().split('-')[0]}"


def choose_cores() -> tuple[int, int]:
    """
    Choose a core for the server and one for the load, and keep ourselves off the first.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, cores[1:])
    return cores[0], cores[1]


def allow_files() -> int:
    """
    Let this process, and those that it starts, open as many files as there may be.

    :returns: how many.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
