"""
Servers as processes of their own: WebDriver's calls block, so none could run in the tests' reactor.
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

# Far beyond what starting and stopping take, so that only a hang runs into it.
_PATIENCE = 30.0


@contextmanager
def serving(*argv: str, says: str) -> Iterator[list[str]]:
    """
    Run a Python program until the tests are done with it.

    :param argv: what comes behind ``python``.
    :param says: a pattern with one group, which is found in what the program writes once it listens.
    :returns: the values of the group.
    """
    # Into a file, since a pipe that nobody reads would stop a program that logs a lot.
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
        # A line that is not whole yet could hold half a URL.
        found = re.findall(says, text[: text.rfind("\n") + 1])
        if found:
            return found
        assert running, f"{process.args!r} ended: {text}"
        assert time.monotonic() < deadline, f"{process.args!r} did not say {says!r}: {text}"
        time.sleep(0.02)
