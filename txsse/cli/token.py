"""
The command ``txsse token``: make a token for a hub, or decode one.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from txsse._output import Unwritable, complain, put
from txsse.cli.command import Command
from txsse.cli.key_options import (
    KEY_ENVIRONMENT,
    InvalidOption,
    add_key_arguments,
    choose_key,
    load,
    make_signed,
    read_keys,
)

__all__ = ["TOKEN"]

# Exit statuses; argparse itself uses 2.
_OK, _NOT_GOOD, _WRONG = 0, 1, 2

_EPILOG = f"""\
A topic is an exact name; * means all topics. With --compatibility it may be a URI template, such as
https://example.org/books/{{id}}. A token without any topic allows reading public updates.

There is no option for a secret: every user of the machine could see it on the command line. Put the secret
into a file, or into the environment variable {KEY_ENVIRONMENT}. To keep a token off the command line, give
--decode -, which reads it from stdin.

This command needs: pip install 'txsse[mercure]'

exit status:
  0  a token was made, or the decoded token passed all checks
  1  the decoded token is invalid, expired, not valid yet or signed by another key, or the output cannot be
     written
  2  the command line or the key is invalid
"""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# The largest token that is read, in characters.
_MAX_TOKEN = 65536


def _lifetime(text: str) -> int | None:
    if text == "never":
        return None
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if found is None or not int(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; times are written like 30s, 10m, 1h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, metavar, what in (
        ("--publish", "TOPIC", "allow publishing to this topic"),
        ("--publish-pattern", "PATTERN", "allow publishing to topics that match this URL pattern"),
        ("--subscribe", "TOPIC", "allow reading private updates of this topic"),
        (
            "--subscribe-pattern",
            "PATTERN",
            "allow reading private updates of topics that match this URL pattern",
        ),
    ):
        parser.add_argument(
            name, action="append", default=[], metavar=metavar, help=f"{what}; may be repeated"
        )
    parser.add_argument(
        "--disconnect",
        action="store_true",
        help="allow disconnecting clients and revoking their tokens, as txsse disconnect does",
    )
    parser.add_argument(
        "--payload",
        metavar="JSON",
        help="data about the subscriber, disclosed with its subscriptions",
    )
    parser.add_argument("--subject", metavar="NAME", help="the subject of the token (sub): its holder")
    parser.add_argument(
        "--expires-in",
        type=_lifetime,
        default=3600,
        metavar="TIME",
        help="the lifetime of the token: 30s, 10m, 1h (the default) or 7d; with --compatibility also never",
    )
    add_key_arguments(parser)
    parser.add_argument(
        "--decode",
        metavar="TOKEN",
        help="show and check a token; its signature is verified only if a key is given; - reads the token "
        "from stdin",
    )


def _run(arguments: argparse.Namespace) -> int:
    try:
        if arguments.decode is not None:
            return _decode(arguments, os.environ, sys.stdin, sys.stdout)
        _make(arguments, os.environ, sys.stdout)
    except InvalidOption as error:
        complain(sys.stderr, "txsse token", error)
        return _WRONG
    except Unwritable as error:
        complain(sys.stderr, "txsse token", error)
        return _NOT_GOOD
    return _OK


def _make(arguments: argparse.Namespace, environment: Mapping[str, str], out: TextIO | None) -> None:
    keys = read_keys(arguments.key_file, environment)
    _check(arguments)
    now = time.time()
    token = make_signed(
        choose_key(keys, arguments.algorithm, arguments.key_id),
        publish=arguments.publish,
        publish_patterns=arguments.publish_pattern,
        subscribe=arguments.subscribe,
        subscribe_patterns=arguments.subscribe_pattern,
        disconnect=arguments.disconnect,
        payload=None if arguments.payload is None else _parse(arguments.payload),
        audience=arguments.audience,
        issuer=arguments.key_issuer,
        subject=arguments.subject,
        issued=now,
        expires=None if arguments.expires_in is None else now + arguments.expires_in,
        compatibility=arguments.compatibility,
    )
    put(out, f"{token}\n")


def _check(arguments: argparse.Namespace) -> None:
    """
    Check that the options can be combined.
    """
    if arguments.payload is not None and not (arguments.subscribe or arguments.subscribe_pattern):
        raise InvalidOption("--payload needs --subscribe or --subscribe-pattern")
    if arguments.compatibility:
        if arguments.disconnect:
            raise InvalidOption(
                "--disconnect and --compatibility exclude each other: a token from before Mercure 1.0 cannot "
                "allow this"
            )
        if arguments.publish_pattern or arguments.subscribe_pattern:
            raise InvalidOption(
                "URL patterns exist since Mercure 1.0; with --compatibility, give URI templates to "
                "--publish and --subscribe"
            )
    elif arguments.audience is None:
        raise InvalidOption("--audience is missing; give the hub's URL, or give --compatibility")
    elif arguments.expires_in is None:
        raise InvalidOption(
            "a token that never expires exists only before Mercure 1.0; give --compatibility, or a lifetime"
        )


def _parse(payload: str) -> object:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        raise InvalidOption("--payload is not JSON") from None


def _decode(
    arguments: argparse.Namespace,
    environment: Mapping[str, str],
    stdin: TextIO | None,
    out: TextIO | None,
) -> int:
    topics = (arguments.publish, arguments.publish_pattern, arguments.subscribe, arguments.subscribe_pattern)
    if arguments.disconnect or any(topics):
        raise InvalidOption("--decode makes no token; remove --publish, --subscribe and --disconnect")
    explaining = load("cli.explain_token")
    keys = read_keys(arguments.key_file, environment)
    token = arguments.decode
    try:
        if token == "-":
            token = _read(stdin)
        text, good = explaining.describe(token, keys, time.time())
    except (UnicodeDecodeError, explaining.NoToken) as error:
        problem = error if isinstance(error, explaining.NoToken) else "this is not a JSON Web Token"
        complain(sys.stderr, "txsse token", problem)
        return _NOT_GOOD
    put(out, text)
    return _OK if good else _NOT_GOOD


def _read(stdin: TextIO | None) -> str:
    if stdin is None:
        raise InvalidOption("stdin is closed; --decode - reads the token from there")
    try:
        return stdin.read(_MAX_TOKEN)
    except OSError as error:
        raise InvalidOption(f"stdin cannot be read: {error.strerror}") from None


TOKEN = Command("token", "Make a token for a hub, or decode one.", _add_arguments, _run, _EPILOG)
