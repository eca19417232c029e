"""
The machine: its name, its cores, and the limit of open files.
"""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path

from shared.processes import Failed


def describe_machine() -> str:
    """
    Return the processor and the version of the operating system.
    """
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {platform.system()} {platform.release().split('-')[0]}"


def choose_cores() -> tuple[int, int]:
    """
    Choose a core for the server and one for the load, and move this process off the server's core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise Failed("two cores are needed: one for the server, one for the load")
    os.sched_setaffinity(0, cores[1:])
    return cores[0], cores[1]


def allow_files() -> int:
    """
    Raise the limit of open files, for this process and its children, to the maximum.

    :returns: the limit.
    """
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most
