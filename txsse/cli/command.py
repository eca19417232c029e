"""
What a command is made of.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Command"]


@dataclass(frozen=True)
class Command:
    """
    What ``txsse NAME`` does.

    :ivar name: the name.
    :ivar summary: one line for the help.
    :ivar add_arguments: tells a parser of the command's arguments.
    :ivar run: does it, and returns the exit status.
    :ivar epilog: what else the help says.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    epilog: str = ""
