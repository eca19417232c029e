"""
:class:`Command`, the description of a subcommand of ``txsse``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command"]


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
