"""
The ``txsse`` command: parse the command line, and run one of the subcommands.

Strategy: :func:`main` returns the exit status and raises nothing: 0 for success, 2 for an invalid command
line, and 1 for any other failure, with one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from txsse._output import Unwritable, complain, give_up, put, visible
from txsse._version import __version__
from txsse.cli.command import Command
from txsse.cli.disconnect import DISCONNECT
from txsse.cli.publish import PUBLISH
from txsse.cli.tail import TAIL
from txsse.cli.token import TOKEN
from txsse.cli.unretain import UNRETAIN

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


__all__ = ["COMMANDS", "Command", "main"]

_SERVICE = """\
the service is a Twisted plugin:
  twist txsse --demo    serve a page that shows live streams in a browser
  twist txsse --help    list all options of the service
"""


COMMANDS: Sequence[Command] = (TAIL, PUBLISH, UNRETAIN, TOKEN, DISCONNECT)


def main(argv: Sequence[str] | None = None, *, commands: Sequence[Command] = COMMANDS) -> int:
    """
    Run the command ``txsse``.

    :param argv: the command line without the program's name; ``None`` for the process's own.
    :param commands: the available subcommands.
    :returns: the exit status.
    """
    if sys.stderr is None:
        # The parent process closed it. Error messages are then discarded, and the exit status still reports
        # the failure.
        sys.stderr = open(os.devnull, "w")
    status = 0
    try:
        status = _run(argv, commands)
        if status == 0 or sys.stdout is not None:
            # Flush: argparse leaves the help in the buffer of stdout.
            put(sys.stdout, "")
    except Unwritable as error:
        if not error.unread:
            complain(sys.stderr, "txsse", error)
            return status or 1
    return status


def _run(argv: Sequence[str] | None, commands: Sequence[Command]) -> int:
    parser = _parser(commands)
    try:
        arguments = parser.parse_args(argv)
        if arguments.command is None:
            parser.print_help()
            return 0
    except SystemExit as end:
        # argparse ends the process after --help, --version and errors; a caller of main() may not want that.
        return end.code if isinstance(end.code, int) else 2
    except OSError as error:
        # Before Python 3.11, argparse raises it from here.
        raise give_up(sys.stdout, error) from None
    command: Command = arguments.command
    return command.run(arguments)


def _parser(commands: Sequence[Command]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="txsse",
        description="Server-sent events for Twisted.",
        epilog=_SERVICE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"txsse {__version__.public()}")
    parser.set_defaults(command=None)
    if commands:
        table = parser.add_subparsers(title="commands", metavar="COMMAND")
        for command in commands:
            subparser = table.add_parser(
                command.name,
                help=command.summary,
                description=command.summary,
                epilog=command.epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
            command.add_arguments(subparser)
            subparser.set_defaults(command=command)
    return parser


class _Parser(argparse.ArgumentParser):
    """
    Report an invalid command line in one line.
    """

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # Without this, argparse would print the help on stderr, and exit with status 0.
        if file is None:
            raise Unwritable("stdout is closed")
        super()._print_message(message, file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {visible(message)}; see {self.prog} --help\n")
