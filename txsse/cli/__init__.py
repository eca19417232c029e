"""
The command ``txsse``.

Strategy: :func:`main` returns the exit status and lets nothing through: 0, or 2 where the command line is
wrong, with one line on stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from txsse._version import __version__
from txsse.cli.command import Command
from txsse.cli.publish import PUBLISH
from txsse.cli.tail import TAIL
from txsse.cli.token import TOKEN

__all__ = ["COMMANDS", "Command", "main"]

_SERVICE = """\
the service is a plugin of Twisted's:
  twist txsse --demo    a page that shows live streams in a browser
  twist txsse --help    all that it can be told
"""


COMMANDS: Sequence[Command] = (TAIL, PUBLISH, TOKEN)


def main(argv: Sequence[str] | None = None, *, commands: Sequence[Command] = COMMANDS) -> int:
    """
    Run the command.

    :param argv: the command line without the program's name; ``None`` for the process's own.
    :param commands: the commands that there are.
    :returns: the exit status.
    """
    parser = _parser(commands)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:
        # argparse ends the process after --help, --version and errors; whoever calls this may not want that.
        return end.code if isinstance(end.code, int) else 2
    if arguments.command is None:
        parser.print_help()
        return 0
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
    Says in one line what is wrong with a command line.
    """

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")
