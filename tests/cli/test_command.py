"""
Running a coroutine of a subcommand in the reactor, as a process.
"""

from __future__ import annotations

import signal

import pytest

from tests.processes import python, start

PROGRAM = """
import sys
from twisted.internet.defer import Deferred
from txsse.cli.command import run_in_reactor

async def work(reactor):
    if sys.argv[1] == "fail":
        raise ZeroDivisionError
    if sys.argv[1] == "wait":
        print("waiting", flush=True)
        await Deferred()
    return int(sys.argv[1])

sys.exit(run_in_reactor(work, interrupted=5, failed=6))
"""

pytestmark = pytest.mark.process


@pytest.mark.parametrize(
    ("argument", "status", "logged"), [("0", 0, ""), ("3", 3, ""), ("fail", 6, "ZeroDivision")]
)
def test_status(argument: str, status: int, logged: str) -> None:
    """
    The exit status is the coroutine's, or that of a failure, which is printed.
    """
    with start(python("-c", PROGRAM, argument)) as program:
        assert program.wait() == status
        assert logged in program.err


def test_interrupted() -> None:
    """
    At Ctrl-C, the coroutine is cancelled, and the exit status is that of an interruption.
    """
    with start(python("-c", PROGRAM, "wait")) as program:
        program.wait_for("waiting")
        assert program.stop(signal.SIGINT) == 5
