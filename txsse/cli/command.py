"""
:class:`Command`, the description of a subcommand of ``txsse``, and a function that runs one in the reactor.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from twisted.internet import task
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from txsse._clock import make_steady
from txsse._twisted.types import CoreReactor

__all__ = ["Command", "run_in_reactor"]


@dataclass(frozen=True)
class Command:
    """
    A subcommand, ``txsse NAME``.

    :ivar name: the name.
    :ivar summary: one line for the help.
    :ivar add_arguments: adds the command's arguments to a parser.
    :ivar run: runs the command, and returns the exit status.
    :ivar epilog: the text at the end of the help.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""


def run_in_reactor(
    work: Callable[[CoreReactor], Coroutine[Deferred[object], object, int]],
    *,
    interrupted: int,
    failed: int = 1,
) -> int:
    """
    Run a coroutine in the global reactor until it ends, and return its exit status.

    At Ctrl-C, it is cancelled before connections are lost, and reported as errors.

    :param interrupted: the exit status if the reactor is stopped before the coroutine has returned.
    :param failed: the exit status after an exception, which is logged.
    """
    statuses: list[int] = []

    def main(reactor: CoreReactor) -> Deferred[None]:
        make_steady(reactor)
        working = Deferred.fromCoroutine(work(reactor))
        reactor.addSystemEventTrigger("before", "shutdown", working.cancel)
        return working.addCallbacks(statuses.append, cancelled)

    def cancelled(failure: Failure) -> None:
        failure.trap(CancelledError)
        statuses.append(interrupted)

    try:
        task.react(main, ())
    except SystemExit as end:
        # react() always exits: with 1 after an exception.
        statuses.append(failed if end.code else interrupted)
    return statuses[0]
