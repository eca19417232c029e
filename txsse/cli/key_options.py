"""
The keys that commands sign tokens with, as command lines tell of them.

What signs is loaded by the commands that need it alone: it wants packages that are optional, and takes half a
second.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from txsse._extras import MissingExtra

__all__ = ["KEY_ENVIRONMENT", "Wrong", "add_key_arguments", "load"]

#: The environment variable that holds a secret.
KEY_ENVIRONMENT = "TXSSE_KEY"


class Wrong(Exception):
    """
    What the command line asks for cannot be.
    """


def add_key_arguments(parser: argparse.ArgumentParser) -> None:
    """
    Tell a parser of the arguments that say which key signs, and for whom.
    """
    parser.add_argument(
        "--key",
        type=Path,
        metavar="FILE",
        help="the key: a secret on a line, a private key in PEM format, or a JSON Web Key Set; "
        f"without it, the environment variable {KEY_ENVIRONMENT} holds a secret",
    )
    parser.add_argument(
        "--algorithm", metavar="ALG", help="what to sign with; otherwise the first that the key is good for"
    )
    parser.add_argument("--kid", metavar="ID", help="what the hub knows the key by")
    parser.add_argument(
        "--issuer", metavar="URL", help="who makes the token, where the hub asks for that: its --key-issuer"
    )
    parser.add_argument("--audience", metavar="URL", help="who it is meant for: the hub's URL")
    parser.add_argument("--compat", action="store_true", help="a token as it was before Mercure 1.0")


def load(name: str) -> Any:
    """
    Load a module of this package that needs what is optional.

    :raises Wrong: where that is missing.
    """
    try:
        return import_module(f"txsse.cli.{name}")
    except MissingExtra as error:
        raise Wrong(str(error)) from None
