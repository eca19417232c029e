"""
Servers in their own processes. Calls to WebDriver block, so a server cannot run in the tests' reactor.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["ROOT", "serving"]

ROOT = Path(__file__).parent.parent.parent

# Seconds: far more than starting and stopping take, so that only a hang causes this timeout.
_PATIENCE = 30.0


@contextmanager
def serving(*argv: str, says: str) -> Iterator[list[str]]:
    """
    Run a Python program until the block ends, and check that it logged no traceback.

    :param argv: the arguments after ``python``.
    :param says: a pattern for the line that the program prints once it listens, with one group.
    :returns: the values of the group.
    """
    # To a file, since a full pipe that is not read would block a program that logs much.
    with TemporaryDirectory(prefix="txsse-") as directory:
        log = Path(directory, "log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *argv],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONIOENCODING": "utf-8",
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _wait_for(process, log, says)
            process.terminate()
            process.wait(_PATIENCE)
        finally:
            process.kill()
            process.wait()
        text = log.read_text(encoding="utf-8")
        assert "Traceback" not in text and "Unhandled" not in text, text


def _wait_for(process: subprocess.Popen[bytes], log: Path, says: str) -> list[str]:
    deadline = time.monotonic() + _PATIENCE
    while True:
        running = process.poll() is None
        text = log.read_text(encoding="utf-8")
        # An incomplete line could contain half a URL.
        found = re.findall(says, text[: text.rfind("\n") + 1])
        if found:
            return found
        assert running, f"{process.args!r} ended: {text}"
        assert time.monotonic() < deadline, f"{process.args!r} did not say {says!r}: {text}"
        time.sleep(0.02)
